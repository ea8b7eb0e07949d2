"""Making a store's plan once, and refusing to go on when what it was made from has changed."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile

import numpy as np

from pipeline.errors import FingerprintMismatch, InputError, PairingError
from pipeline.manifest import Manifest
from pipeline.pairs import Pair, check_order
from pipeline.place import Place, place, write
from pipeline.plan import PlanRow, planned_rows
from pipeline.plan_file import write_plan
from pipeline.shards import check_member, tar_members
from pipeline.store import ABOUT, HEADER, PLAN, SCHEMA_VERSION, Header, Store
from pipeline.words import listed, shown

SHARD_SIZE = 128  # two shards of decoded megapixel pairs still fit a small machine
PLANNED = "logs/planned.json"
ADVICE = "the data changed since the plan was made: restore it, or give the new one a place of its own with --store DIR"
BEGUN = frozenset({"logs", PLAN, ABOUT})  # what is there of a planning that has not come to the header
SPOOLED = 1 << 22  # bytes of a plan that stay in memory while it is made


def open_or_plan(
    location: str, manifest: Manifest, pairs: Sequence[Pair], root: Path, *, limit: int | None, shard_size: int | None
) -> Store:
    """The store at ``location``, planned now if it does not exist.

    Raises FingerprintMismatch, naming the field and both values, when it exists and data or options differ, and
    InputError for numbers out of bounds or a file where its folder should be.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least 1")
    if shard_size is not None and not 1 <= shard_size <= 100_000:
        raise InputError(f"--shard-size {shard_size}: between 1 and 100000")
    if not pairs:
        raise PairingError(f"{root}: no pairs found")
    pairs = pairs[:limit]
    home = place(location)
    in_the_way = next((one for one in (Path(location), *Path(location).parents) if one.is_file()), None)
    if in_the_way is not None and "://" not in location:
        raise InputError(f"--store {location}: {in_the_way} is a file; name a folder")
    there = {name for name in home.list("") if not name.startswith(".")}
    if home.exists(HEADER):
        store = Store.open(location)
        size = shard_size or store.header.shard_size
        _check_header(store, _header(manifest, pairs, size, limit))
        _check_data(store, pairs, root)
        return store
    _check_place(location, there, pairs)
    check_order(pairs, manifest.channels)
    size = shard_size or SHARD_SIZE
    began, origin = time.time(), _origin(pairs)
    with SpooledTemporaryFile(max_size=SPOOLED) as file:  # nothing is written before every pair is found good
        rows = _apart(_fitting(planned_rows(pairs, root, size), manifest.names), pairs)
        plan = write_plan(file, rows, size)
        _note_hashed(home, began, origin)
        file.seek(0)
        with home.writer(PLAN) as target:
            shutil.copyfileobj(file, target)
    write(home, ABOUT, json.dumps(manifest.as_dict(), indent=1, ensure_ascii=False).encode() + b"\n")
    header = replace(_header(manifest, pairs, size, limit), plan_digest=plan.digest, plan_sha256=plan.sha256)
    if not home.create(HEADER, header.as_json()):  # another process planned at the same moment
        return open_or_plan(location, manifest, pairs, root, limit=limit, shard_size=shard_size)
    return Store.open(location)


def _check_place(location: str, there: set[str], pairs: Sequence[Pair]) -> None:
    """Raises InputError for a folder that holds anything but what a planning that was cut off leaves, or lies among images."""
    if there and not {"logs"} <= there <= BEGUN:
        raise InputError(
            f"--store {location}: no store, and not empty ({listed(sorted(there), 'it holds')}); name a new folder"
        )
    if "://" not in location:
        above = {Path(location).resolve(), *Path(location).resolve().parents}
        for folder in {file.parent for pair in pairs for file in (pair.first, pair.second)}:
            if folder.resolve() in above:
                raise InputError(f"--store {location}: inside {folder}, where only images may lie; name another folder")


def _fitting(rows: Iterator[PlanRow], modalities: tuple[str, str]) -> Iterator[PlanRow]:
    """The rows as they come; a name that does not fit a tar header is refused."""
    for row in rows:
        for member in tar_members([row], modalities):
            check_member(member)
        yield row


def _apart(rows: Iterator[PlanRow], pairs: Sequence[Pair]) -> Iterator[PlanRow]:
    """The rows of ``pairs`` as they come; one of ``train`` that another split holds too, byte for byte, is refused."""
    identities = array("Q")  # 64 bits of each: millions of pairs go through a small machine
    for row in rows:
        identities.append(int(row.pair_id[:16], 16))
        yield row
    order = np.argsort(np.asarray(identities), kind="stable")
    twice = np.flatnonzero(np.diff(np.asarray(identities)[order]) == 0)
    found = []
    for one, other in zip(order[twice], order[twice + 1], strict=True):
        first, second = sorted((pairs[int(one)], pairs[int(other)]), key=lambda pair: pair.split != "train")
        if first.split == "train" != second.split:
            found.append(f"{first.first} in train is {second.first} in {second.split}")
    if found:
        raise PairingError(
            f"the same pairs in two splits, byte for byte: {shown(sorted(found))}; what was trained on tells nothing in a test: "
            "leave each in one of them"
        )


def _header(manifest: Manifest, pairs: Sequence[Pair], size: int, limit: int | None) -> Header:
    return Header(
        schema_version=SCHEMA_VERSION,
        dataset=manifest.name,
        task=manifest.task,
        modalities=manifest.names,
        pairs=len(pairs),
        shards=-(-len(pairs) // size),
        shard_size=size,
        splits=dict(sorted(Counter(pair.split for pair in pairs).items())),
        limit=limit,
        plan_digest="",
        plan_sha256="",
        manifest_digest=manifest.digest,
    )


def _check_header(store: Store, now: Header) -> None:
    for field in ("dataset", "task", "modalities", "limit", "splits", "pairs", "shard_size", "manifest_digest"):
        was, wanted = getattr(store.header, field), getattr(now, field)
        if was != wanted:
            raise FingerprintMismatch(
                f"{store.name}: planned with {field} {was!r}, now {wanted!r}; a plan is never edited: give the new one a "
                "place of its own with --store DIR"
            )


def _check_data(store: Store, pairs: Sequence[Pair], root: Path) -> None:
    """Names and sizes of all files, and the content of those that changed since they were hashed.

    In other folders than they were hashed in, whatever the path says, every file is hashed again.
    """
    planned = store.plan()
    began, origin = time.time(), _origin(pairs)
    since, hashed = _hashed_at(store, origin), False
    for row, pair in zip(planned, pairs, strict=True):
        if row.key != pair.key:
            raise FingerprintMismatch(f"{store.name}: planned with key {row.key!r}, now {pair.key!r}; {ADVICE}")
        for path, stored, size, sha256 in (
            (pair.first, row.first, row.first_bytes, row.first_sha256),
            (pair.second, row.second, row.second_bytes, row.second_sha256),
        ):
            hashed |= _check_file(store, path, root, stored, size, sha256, since)
    if hashed:
        _note_hashed(store.place, began, origin)


def _origin(pairs: Sequence[Pair]) -> str:
    """Which folders the files lie in: a digest of the folders' paths, links resolved, and of their inode numbers."""
    folders = {folder for pair in pairs for folder in (pair.first.parent, pair.second.parent)}
    lines = sorted(f"{folder.resolve()} {folder.stat().st_ino}" for folder in folders)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _note_hashed(home: Place, began: float, origin: str) -> None:
    """Write down that the files in these folders were as planned at this time."""
    write(home, PLANNED, json.dumps({"time": began, "folders": origin}).encode())


def _hashed_at(store: Store, origin: str) -> float:
    """When the files in these folders were hashed, in seconds since 1970; 0, so that all count as changed, if never."""
    try:
        log = json.loads(store.place.read(PLANNED))
        since = float(log["time"]) if log["folders"] == origin else 0.0
    except (FileNotFoundError, ValueError, TypeError, LookupError):
        return 0.0
    return since if math.isfinite(since) else 0.0


def _check_file(store: Store, path: Path, root: Path, stored: str, size: int, sha256: str, since: float) -> bool:
    """Whether the file had to be hashed. A moved file keeps the time of its content, but not that of its entry."""
    now = path.absolute().relative_to(root.absolute()).as_posix()
    if now != stored:
        raise FingerprintMismatch(f"{store.name}: planned with path {stored!r}, now {now!r}; {ADVICE}")
    status = path.stat()
    if status.st_size != size:
        raise FingerprintMismatch(f"{path}: bytes were {size}, now {status.st_size}; {ADVICE}")
    changed = max(status.st_mtime, status.st_ctime, path.lstat().st_ctime)
    if changed <= since - 2:  # two seconds: the coarsest clock of the usual file systems
        return False
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise FingerprintMismatch(f"{path}: sha256 was {sha256[:16]}…, now {found[:16]}…; {ADVICE}")
    return True
