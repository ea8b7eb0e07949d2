"""Reading a store: header, plan, priors and images, on a local path or any fsspec URL. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.manifest import NAME
from pipeline.place import Place, place
from pipeline.plan import PlanRow
from pipeline.plan_file import Plan
from pipeline.shards import (
    marker_name,
    member_content,
    read_table,
    row_schema,
    rows_name,
    tar_members,
    tar_name,
)

SCHEMA_VERSION = 1
HEADER = "store.json"
PLAN = "plan.parquet"
ABOUT = "manifest.json"  # what the data set's maker says of it: for people, no part of the store's identity
MOST = 10**10  # pairs of a store that anybody could have made
DEFAULT_PRIOR = "text"


@dataclass(frozen=True, kw_only=True)
class Header:
    """``store.json``: what the store holds and which plan it follows. ``limit`` is the ``--limit`` it was planned with."""

    schema_version: int
    dataset: str
    task: str
    modalities: tuple[str, str]
    pairs: int
    shards: int
    shard_size: int
    splits: dict[str, int]
    limit: int | None
    plan_digest: str  # of the rows
    plan_sha256: str  # of the file
    manifest_digest: str

    def as_json(self) -> bytes:
        """The file's content."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


class Store:
    """A store that exists. Make one with ``Store.open``."""

    def __init__(self, where: Place, header: Header) -> None:
        self.place = where
        self.header = header

    @staticmethod
    def open(location: str | Path) -> Store:
        """Open the store at a path or URL. Raises StoreError: no store, damaged header, another schema version."""
        home = place(location)
        if not home.exists(HEADER):
            raise StoreError(f"{location}: no store here (no {HEADER}); make one with `fusioncli caption`")
        return Store(home, parse_header(home.read(HEADER), f"{location}/{HEADER}"))

    @property
    def name(self) -> str:
        """The path or URL."""
        return str(self.place)

    def plan(self) -> Plan:
        """Every pair, in order, read as it is asked for. Raises StoreError if the file is not the one the header names."""
        return self._plan

    def shard_rows(self, shard: int) -> list[PlanRow]:
        """The pairs of one shard, in order."""
        size = self.header.shard_size
        return self._plan[shard * size : (shard + 1) * size]

    def shard_pairs(self, shard: int) -> int:
        """How many pairs a shard has."""
        return min(self.header.shard_size, self.header.pairs - shard * self.header.shard_size)

    def prior_names(self) -> list[str]:
        """Names of the priors, finished or not."""
        return [name for name in self.place.list("priors") if NAME.fullmatch(name)]

    def fingerprint(self, prior: str) -> dict[str, Any]:
        """Everything that decided the prior's content. Raises StoreError when there is no such prior."""
        name = f"priors/{self._prior(prior)}/fingerprint.json"
        if not self.place.exists(name):
            names = ", ".join(self.prior_names()) or "none"
            raise StoreError(f"{self.name}: no prior {prior!r}; there are: {names}; make it with `fusioncli caption`")
        found = _mapping(self.place.read(name), f"{self.name}/{name}")
        parts = [found.get("captioner"), found.get("embedder")]
        named = all(isinstance(part, dict) and isinstance(part.get("name"), str) for part in parts)
        if not named or type(found["embedder"].get("width")) is not int:
            raise StoreError(f"{self.name}/{name}: damaged: it names no captioner, or no embedder and its width")
        return found

    def marker(self, prior: str, shard: int) -> dict[str, Any] | None:
        """The done-marker of a shard, or None while it is unfinished. Raises StoreError for a damaged one."""
        name = marker_name(self._prior(prior), shard)
        if not self.place.exists(name):
            return None
        try:
            return parse_marker(self.place.read(name), f"{self.name}/{name}")
        except StoreError as error:
            raise StoreError(f"{error}; run the same `fusioncli caption` again to make it anew") from error

    def finished(self, prior: str) -> list[int]:
        """The shards of a prior that have their done-marker."""
        names = set(self.place.list(f"priors/{self._prior(prior)}"))
        return [shard for shard in range(self.header.shards) if Path(marker_name(prior, shard)).name in names]

    def rows(self, prior: str = DEFAULT_PRIOR, columns: Sequence[str] | None = None) -> Any:
        """A pyarrow table with one row a pair, in plan order. Raises StoreError if the prior is not finished."""
        import pyarrow as pa

        self.fingerprint(prior)
        done = set(self.finished(prior))
        missing = [shard for shard in range(self.header.shards) if shard not in done]
        if missing:
            raise StoreError(
                f"{self.name}: prior {prior!r} is unfinished: {len(missing)} of {self.header.shards} shards are missing, "
                f"the first is {missing[0]}; run the same `fusioncli caption` again to finish it"
            )
        return pa.concat_tables([self.shard_table(prior, shard, columns) for shard in range(self.header.shards)])

    def shard_table(self, prior: str, shard: int, columns: Sequence[str] | None = None) -> Any:
        """A pyarrow table of the rows of one shard, their keys checked against the plan.

        Raises StoreError: not there, damaged, rows of other pairs, or a column that a prior does not have.
        """
        name = rows_name(self._prior(prior), shard)
        where = f"{self.name}/{name}"
        if not self.place.exists(name):
            raise StoreError(f"{where}: missing; delete the marker beside it and run `fusioncli caption` again")
        planned = self.shard_rows(shard)
        wanted = None if columns is None else list(dict.fromkeys(["key", *columns]))
        schema = row_schema(self.fingerprint(prior)["embedder"]["width"])
        unknown = [column for column in wanted or () if column not in schema.names]
        if unknown:
            raise StoreError(
                f"{self.name}: prior {prior!r} has no column {unknown[0]!r}; it has {', '.join(schema.names)}"
            )
        table = read_table(self.place.read(name), where, rows=len(planned), schema=schema, columns=wanted)
        if table.column("key").to_pylist() != [row.key for row in planned]:
            raise StoreError(f"{where}: its keys are not those of the plan; run `fusioncli store verify`")
        return table if columns is None else table.select(list(columns))

    def image_bytes(self, row: PlanRow) -> tuple[bytes, bytes]:
        """Both files of a pair, as they were, by one read at a known place in the shard's tar. Safe in any process.

        Raises StoreError where the tar is missing, cut short or holds another image there.
        """
        first, second = tar_members([row], self.header.modalities, row.offset)
        name = tar_name(row.shard)
        where = f"{self.name}/{name}"
        try:
            block = self.place.read_range(name, first.offset, second.end)
        except FileNotFoundError as error:
            raise StoreError(f"{where}: missing; run the same `fusioncli caption` again to finish the store") from error
        return (
            member_content(block, first, first.offset, where),
            member_content(block, second, first.offset, where),
        )

    def digest(self) -> str:
        """SHA-256 over header, fingerprints and markers, which hold the hashes of all else: the store's identity."""
        total = hashlib.sha256(self.place.read(HEADER))
        for prior in self.prior_names():
            total.update(f"\n{prior}\n".encode() + self.place.read(f"priors/{prior}/fingerprint.json"))
            for shard in self.finished(prior):
                total.update(self.place.read(marker_name(prior, shard)))
        return total.hexdigest()

    def _prior(self, prior: str) -> str:
        if not NAME.fullmatch(prior):
            raise StoreError(f"prior {prior[:80]!r}: a name has letters, digits, _ and - only, at most 64")
        return prior

    @cached_property
    def _plan(self) -> Plan:
        header = self.header
        return Plan(self.place, PLAN, rows=header.pairs, shard_size=header.shard_size, sha256=header.plan_sha256)


def parse_header(content: bytes, where: str) -> Header:
    """Read ``store.json``. Raises StoreError naming what is wrong; the version is looked at first."""
    raw = _mapping(content, where)
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{where}: schema version {version!r}, this program reads {SCHEMA_VERSION}; use the version of fusioncli that "
            "made the store, or caption the pairs again into a new one"
        )
    names = {field.name for field in fields(Header)}
    if set(raw) != names:
        raise StoreError(f"{where}: damaged: wrong or missing fields {sorted(names.symmetric_difference(raw))}")
    numbers = [raw[name] for name in ("pairs", "shards", "shard_size")]
    texts = [raw[name] for name in ("dataset", "task", "plan_digest", "plan_sha256", "manifest_digest")]
    modalities, splits, limit = raw["modalities"], raw["splits"], raw["limit"]
    counts = list(splits.values()) if isinstance(splits, dict) else []
    if (
        not all(type(number) is int and 0 < number <= MOST for number in (*numbers, *counts))
        or sum(counts) != raw["pairs"]
        or not (limit is None or (type(limit) is int and limit > 0))
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(modalities, list)
        or len(modalities) != 2
        or not all(isinstance(name, str) and NAME.fullmatch(name) for name in modalities)
    ):
        raise StoreError(f"{where}: damaged: a field has an impossible value")
    if raw["shards"] != -(-raw["pairs"] // raw["shard_size"]):
        raise StoreError(f"{where}: damaged: {raw['shards']} shards of {raw['shard_size']} for {raw['pairs']} pairs")
    return Header(**{**raw, "modalities": (modalities[0], modalities[1])})


def parse_marker(content: bytes, where: str) -> dict[str, Any]:
    """Read a done-marker. Raises StoreError when it is none."""
    marker = _mapping(content, where)
    counts = [marker.get(name) for name in ("shard", "rows", "ok", "failed")]
    tallies = [marker.get(name) for name in ("errors", "unknown_labels")]
    counts += [number for tally in tallies if isinstance(tally, dict) for number in tally.values()]
    files = marker.get("files")
    parts = [*tallies, files, *(files.values() if isinstance(files, dict) else ())]
    if not all(isinstance(part, dict) for part in parts) or not all(type(number) is int for number in counts):
        raise StoreError(f"{where}: damaged: not a done-marker")
    return marker


def _mapping(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise StoreError(f"{where}: damaged: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise StoreError(f"{where}: damaged: expected a JSON object")
    return value
