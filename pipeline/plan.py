"""The plan: every pair, its identity and its shard, decided once and never edited."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import FingerprintMismatch, InputError, PairingError
from pipeline.layout import HEADER, PLAN, PLAN_SCHEMA, SCHEMA_VERSION
from pipeline.manifest import Manifest
from pipeline.pairs import Pair, pair_size, shown
from pipeline.place import Place
from pipeline.shards import json_bytes, parquet_bytes
from pipeline.store import PlanRow, Store, StoreHeader


def pair_identity(first: bytes, second: bytes) -> str:
    """``pair_id``: SHA-256 over both files' digests, 32 hex digits."""
    digests = hashlib.sha256(first).digest() + hashlib.sha256(second).digest()
    return hashlib.sha256(digests).hexdigest()[:32]


def plan_rows(
    pairs: Sequence[Pair], root: Path, shard_size: int, on_pair: Callable[[], None] = lambda: None
) -> list[PlanRow]:
    """Read every file once: digest, size, identity. Raises ImageError or PairingError naming the file.

    Two pairs of one content in different splits are refused: what is trained on must not be tested on.
    """
    if shard_size < 1:
        raise InputError(f"--shard-size {shard_size}: at least 1")

    def row(pair: Pair) -> PlanRow:
        height, width = pair_size(pair)
        first, second = pair.first.read_bytes(), pair.second.read_bytes()
        on_pair()
        return PlanRow(
            key=pair.key,
            pair_id=pair_identity(first, second),
            shard=0,
            split=pair.split,
            first=_relative(pair.first, root),
            second=_relative(pair.second, root),
            first_sha256=hashlib.sha256(first).hexdigest(),
            second_sha256=hashlib.sha256(second).hexdigest(),
            height=height,
            width=width,
        )

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 2)) as pool:
        rows = list(pool.map(row, pairs))
    seen: dict[str, PlanRow] = {}
    overlaps = [
        f"{seen[r.pair_id].first} and {r.first}" for r in rows if seen.setdefault(r.pair_id, r).split != r.split
    ]
    if overlaps:
        raise PairingError(f"one content in two splits: {shown(overlaps)}")
    return [replace(row, shard=index // shard_size) for index, row in enumerate(rows)]


def make_store(place: Place, manifest: Manifest, rows: Sequence[PlanRow], shard_size: int) -> Store:
    """Write plan and header (last) of a new store, or open the one that is there if it has the same plan.

    Raises FingerprintMismatch naming the field and both values when it has another.
    """
    content = parquet_bytes([asdict(row) for row in rows], PLAN_SCHEMA)
    header = StoreHeader(
        schema_version=SCHEMA_VERSION,
        dataset=manifest.name,
        task=manifest.task,
        modalities=manifest.modalities,
        pairs=len(rows),
        shards=-(-len(rows) // shard_size),
        shard_size=shard_size,
        plan_digest=hashlib.sha256(content).hexdigest(),
        manifest_digest=manifest.digest,
    )
    if place.exists(HEADER):
        store = Store.open(place.location)
        _refuse_other(store, header, rows)
        return store
    place.write(PLAN, content)
    place.write(HEADER, json_bytes(asdict(header)))
    return Store(place, header)


def _refuse_other(store: Store, wanted: StoreHeader, rows: Sequence[PlanRow]) -> None:
    for field in ("dataset", "task", "modalities", "shard_size", "pairs", "manifest_digest"):
        old, new = getattr(store.header, field), getattr(wanted, field)
        if old != new:
            raise FingerprintMismatch(
                f"{store.place}: this store was made with {field} = {old}, now it is {new}; use another --store, or delete it"
            )
    for old_row, new_row in zip(store.plan(), rows, strict=True):
        if old_row != new_row:
            fields = [name for name in asdict(old_row) if getattr(old_row, name) != getattr(new_row, name)]
            old, new = getattr(old_row, fields[0]), getattr(new_row, fields[0])
            raise FingerprintMismatch(
                f"{store.place}: the data changed: {fields[0]} of {old_row.key} was {old}, now it is {new}; use another "
                "--store, or bring the old files back"
            )


def _relative(path: Path, root: Path) -> str:
    resolved, base = path.absolute(), root.absolute()
    return resolved.relative_to(base).as_posix() if resolved.is_relative_to(base) else path.name
