"""``plan.parquet``: written row by row, read a group of shards at a time, so that memory does not grow with the pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import IO, Any, overload

from pipeline.errors import StoreError
from pipeline.place import Place
from pipeline.plan import PlanRow, check_rows, digest_line, plan_schema, plan_table
from pipeline.shards import PARQUET, member_size, open_table

GROUP = 2048  # rows of a row group, or one shard where that is more
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class WrittenPlan:
    """How long a plan is and its two digests: of the rows' content, and of the file."""

    rows: int
    digest: str
    sha256: str


def group_size(shard_size: int) -> int:
    """Rows of a row group: whole shards."""
    return shard_size * max(1, GROUP // shard_size)


def write_plan(file: IO[bytes], rows: Iterable[PlanRow], shard_size: int) -> WrittenPlan:
    """Write the plan as it comes. Raises StoreError for a row that ``check_rows`` refuses."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    count, last = 0, ""
    with pq.ParquetWriter(file, plan_schema(), **PARQUET) as writer:
        ahead = iter(rows)
        while group := list(islice(ahead, group_size(shard_size))):
            check_rows(group, "the plan", start=count, shard_size=shard_size)
            if group[0].key <= last:
                raise StoreError(f"the plan: key {group[0].key!r} is out of order or there twice")
            for row in group:
                digest.update(digest_line(row))
            writer.write_table(plan_table(group), row_group_size=len(group))
            count, last = count + len(group), group[-1].key
    file.seek(0)
    return WrittenPlan(rows=count, digest=digest.hexdigest(), sha256=file_sha256(file))


def file_sha256(file: IO[bytes]) -> str:
    """SHA-256 of the rest of an open file."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class Plan(Sequence[PlanRow]):
    """The rows of a stored plan, in order; at most two groups of them are in memory."""

    def __init__(self, home: Place, name: str, *, rows: int, shard_size: int, sha256: str) -> None:
        """Raises StoreError when the file is missing or its SHA-256 is not the given one."""
        self.home, self.name = home, name
        self.where = f"{home}/{name}"
        self.rows, self.shard_size = rows, shard_size
        self.group = group_size(shard_size)
        if not home.exists(name):
            raise StoreError(f"{self.where}: missing; the store is damaged")
        with home.open(name) as file:
            if file_sha256(file) != sha256:
                raise StoreError(f"{self.where}: not the plan that store.json names (its SHA-256 differs); restore it")
        self._kept = lru_cache(maxsize=2)(self._read)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[PlanRow]:
        last = ""
        for number in range(-(-self.rows // self.group)):
            group = self._read(number)
            if group[0].key <= last:
                raise StoreError(f"{self.where}: key {group[0].key!r} is out of order or there twice")
            last = group[-1].key
            yield from group

    @overload
    def __getitem__(self, index: int) -> PlanRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[PlanRow]: ...
    def __getitem__(self, index: int | slice) -> PlanRow | list[PlanRow]:
        if isinstance(index, slice):
            return [self[place] for place in range(self.rows)[index]]
        group, place = divmod(range(self.rows)[index], self.group)
        return self._kept(group)[place]

    def _read(self, number: int) -> list[PlanRow]:
        start = number * self.group
        with self.home.open(self.name) as file:
            parquet = open_table(file, self.where, rows=self.rows, schema=plan_schema())
            group = parquet.read(number) if number < parquet.groups else None
        if group is None or group.num_rows != min(self.group, self.rows - start):
            raise StoreError(f"{self.where}: its row groups are not those of a plan this program made")
        rows = list(_with_offsets(group.to_pylist()))
        check_rows(rows, self.where, start=start, shard_size=self.shard_size)
        return rows


def _with_offsets(entries: Iterable[dict[str, Any]]) -> Iterator[PlanRow]:
    """Rows as they are stored, empty cells too, and where each one's images begin."""
    shard, offset = -1, 0
    for entry in entries:
        if entry["shard"] != shard:
            shard, offset = entry["shard"], 0
        yield PlanRow(**entry, offset=offset)
        offset += member_size(entry["first_bytes"] or 0) + member_size(entry["second_bytes"] or 0)
