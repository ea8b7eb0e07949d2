"""Proof that a store is whole: every planned pair exactly once, every byte as its digest says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.card import CARD
from pipeline.errors import StoreError
from pipeline.place import Place
from pipeline.plan import PlanRow, digest_line
from pipeline.shards import (
    BLOCK,
    FAILED,
    OK,
    MembersDigest,
    marker_name,
    rows_name,
    tar_header,
    tar_members,
    tar_name,
    tar_size,
)
from pipeline.store import ABOUT, HEADER, PLAN, Store


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What ``verify`` found. ``problems`` empty: the store is whole."""

    pairs: int
    shards: int
    files: int
    bytes: int
    failed: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def verify(store: Store) -> Verdict:
    """Check plan, tars, rows and markers of every prior. Raises StoreError when header or plan cannot be read at all."""
    planned = hashlib.sha256()
    for row in store.plan():
        planned.update(digest_line(row))
    header = store.header
    problems: list[str] = []
    if planned.hexdigest() != header.plan_digest:
        problems.append(f"{PLAN}: its rows are not those that {HEADER} names")
    failed: dict[str, int] = {}
    expected = {HEADER, PLAN}
    total = store.place.size(HEADER) + store.place.size(PLAN)
    tars: dict[str, dict[str, object]] = {}
    for shard in range(header.shards):
        name = tar_name(shard)
        expected.add(name)
        if not store.place.exists(name):
            problems.append(f"{name}: missing")
            continue
        found, digest = tar_problems(store.place, name, store.shard_rows(shard), header.modalities)
        problems += found
        size = store.place.size(name)
        tars[name] = {"bytes": size, "members_sha256": digest}
        total += size
    priors = store.prior_names()
    if not priors:
        problems.append("no prior: nothing was captioned yet")
    for prior in priors:
        expected.add(f"priors/{prior}/fingerprint.json")
        failed[prior] = 0
        for shard in range(header.shards):
            names = rows_name(prior, shard), marker_name(prior, shard)
            expected.update(names)
            found, bad = _shard_problems(store, prior, shard, tars)
            problems += found
            failed[prior] += bad
            total += sum(store.place.size(name) for name in names if store.place.exists(name))
    problems += [f"{name}: not part of a store" for name in _files(store.place) if name not in expected]
    return Verdict(
        pairs=header.pairs, shards=header.shards, files=len(expected), bytes=total, failed=failed, problems=problems
    )


def tar_problems(home: Place, name: str, rows: Sequence[PlanRow], modalities: tuple[str, str]) -> tuple[list[str], str]:
    """Read a tar once, front to back: whatever differs from the plan, and the digest of its members."""
    problems: list[str] = []
    members = tar_members(rows, modalities)
    hashes = [digest for row in rows for digest in (row.first_sha256, row.second_sha256)]
    if home.size(name) != tar_size(members):
        return [f"{name}: {home.size(name)} bytes where the plan asks for {tar_size(members)}"], ""
    digest = MembersDigest()
    with home.open(name) as file:
        for member, expected in zip(members, hashes, strict=True):
            block = file.read(member.end - member.offset)
            content = block[BLOCK : BLOCK + member.size]
            found = hashlib.sha256(content).hexdigest()
            digest.add(block[:BLOCK], found)
            if block[:BLOCK] != tar_header(member):
                problems.append(f"{name}: another header where {member.name} is planned")
            elif found != expected:
                problems.append(f"{name}: {member.name} is not the planned image (its SHA-256 differs)")
            elif any(block[BLOCK + member.size :]):
                problems.append(f"{name}: {member.name} is not followed by zeros")
        if any(file.read()):
            problems.append(f"{name}: something follows its last member")
    return problems, digest.hexdigest()


def _shard_problems(store: Store, prior: str, shard: int, tars: dict[str, dict[str, object]]) -> tuple[list[str], int]:
    name, marker_file = rows_name(prior, shard), marker_name(prior, shard)
    try:
        marker = store.marker(prior, shard)
        if marker is None:
            return [f"{marker_file}: missing: the shard is unfinished"], 0
        table = store.shard_table(prior, shard)
    except StoreError as error:
        return [str(error)], 0
    content = store.place.read(name)
    found: dict[str, object] = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    if tar_name(shard) in tars:
        found[tar_name(shard)] = tars[tar_name(shard)]
    problems = []
    stated = marker.get("files")
    for file, true in found.items():
        if not isinstance(stated, dict) or stated.get(file) != true:
            problems.append(f"{file}: its size or digest is not what {marker_file} says")
    rows = table.to_pylist()
    planned = store.shard_rows(shard)
    if [row["pair_id"] for row in rows] != [row.pair_id for row in planned]:
        problems.append(f"{name}: its pair ids are not those of the plan")
    for row in rows:
        whole = row["text_embedding"] is not None and row["loss_weights"] is not None and row["events"] is not None
        if not (row["status"] == OK and whole) and not (row["status"] == FAILED and row["error_kind"]):
            problems.append(f"{name}: row {row['key']} is neither a caption nor an error")
    bad = sum(row["status"] == FAILED for row in rows)
    if (marker.get("rows"), marker.get("failed")) != (len(rows), bad):
        problems.append(f"{marker_file}: its counts are not those of {name}")
    return problems, bad


def _files(home: Place) -> list[str]:
    """All files of the store but its logs and what is there for people."""
    names = [name for name in home.list("") if name not in ("logs", "images", "priors", CARD, ABOUT)]
    names += [f"images/{name}" for name in home.list("images")]
    for prior in home.list("priors"):
        names += [f"priors/{prior}/{name}" for name in home.list(f"priors/{prior}")]
    return names
