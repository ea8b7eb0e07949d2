"""Reading a store: its plan, its priors, its images. The one part of stage one that stage two uses."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError, closest
from pipeline.layout import FINGERPRINT, HEADER, PLAN, PLAN_SCHEMA, SCHEMA_VERSION, images_path, marker_path, rows_path
from pipeline.manifest import Modality
from pipeline.place import Place


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """store.json."""

    schema_version: int
    dataset: str
    task: str
    modalities: tuple[Modality, Modality]
    pairs: int
    shards: int
    shard_size: int
    plan_digest: str
    manifest_digest: str


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One planned pair; paths are relative to the data root."""

    key: str
    pair_id: str
    shard: int
    split: str
    first: str
    second: str
    first_sha256: str
    second_sha256: str
    height: int
    width: int


class Store:
    """An existing store, local or behind any fsspec URL."""

    def __init__(self, place: Place, header: StoreHeader) -> None:
        self.place, self.header = place, header
        self._offsets: dict[int, dict[str, tuple[int, int]]] = {}

    @classmethod
    def open(cls, location: str | Path) -> Store:
        """Raises StoreError: nothing there, not a store, another schema version."""
        place = Place(location)
        if not place.exists(HEADER):
            raise StoreError(f"{location}: no store here ({HEADER} is missing); `fusioncli caption` makes one")
        return cls(place, parse_header(place.read(HEADER), str(location)))

    @cached_property
    def _plan(self) -> list[PlanRow]:
        content = self.place.read(PLAN)
        found = hashlib.sha256(content).hexdigest()
        if found != self.header.plan_digest:
            raise StoreError(
                f"{self.place}: {PLAN} has digest {found[:12]}…, the header {self.header.plan_digest[:12]}…"
            )
        table = read_table(content, f"{self.place}/{PLAN}")
        if table.schema.names != PLAN_SCHEMA.names:
            raise StoreError(f"{self.place}/{PLAN}: columns {table.schema.names}, expected {PLAN_SCHEMA.names}")
        return [PlanRow(**row) for row in table.to_pylist()]

    def plan(self) -> list[PlanRow]:
        """Every pair, in order. Raises StoreError when the plan is missing or not the one of the header."""
        return self._plan

    def shard_rows(self, shard: int) -> list[PlanRow]:
        """The planned pairs of one shard, in order."""
        size = self.header.shard_size
        return self._plan[shard * size : (shard + 1) * size]

    def prior_names(self) -> list[str]:
        """The priors that were begun."""
        return [name for name in self.place.names("priors") if self.place.exists(f"priors/{name}/{FINGERPRINT}")]

    def fingerprint(self, prior: str) -> dict[str, Any]:
        """What decides the content of a prior. Raises StoreError for an unknown one."""
        if prior not in self.prior_names():
            known = self.prior_names()
            raise StoreError(
                f"{self.place}: no prior {prior!r}{closest(prior, known)}; it has {', '.join(known) or 'none'}"
            )
        value = json.loads(self.place.read(f"priors/{prior}/{FINGERPRINT}"))
        if not isinstance(value, dict):
            raise StoreError(f"{self.place}/priors/{prior}/{FINGERPRINT}: not a mapping")
        return value

    def finished(self, prior: str) -> list[int]:
        """The shards of a prior that carry a done-marker."""
        names = set(self.place.names(f"priors/{prior}"))
        return [k for k in range(self.header.shards) if marker_path(prior, k).rsplit("/", 1)[-1] in names]

    def marker(self, prior: str, shard: int) -> dict[str, Any]:
        """A shard's done-marker. Raises StoreError when it is missing or damaged."""
        try:
            value: dict[str, Any] = json.loads(self.place.read(marker_path(prior, shard)))
        except json.JSONDecodeError as error:
            raise StoreError(f"{self.place}/{marker_path(prior, shard)}: not JSON ({error})") from error
        return value

    def shard_table(self, prior: str, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of one finished shard."""
        name = rows_path(prior, shard)
        return read_table(self.place.read(name), f"{self.place}/{name}", columns)

    def rows(self, prior: str, columns: list[str] | None = None) -> pa.Table:
        """All rows of a prior, in plan order. Raises StoreError while shards are missing."""
        self.fingerprint(prior)
        missing = sorted(set(range(self.header.shards)) - set(self.finished(prior)))
        if missing:
            raise StoreError(
                f"{self.place}: prior {prior!r} is unfinished: {len(missing)} of {self.header.shards} shards are missing "
                f"(the first is {missing[0]}); run the same `fusioncli caption` again"
            )
        return pa.concat_tables(self.shard_table(prior, shard, columns) for shard in range(self.header.shards))

    def image_bytes(self, row: PlanRow) -> tuple[bytes, bytes]:
        """The original bytes of both images, by random access into the shard's tar."""
        offsets = self._shard_offsets(row.shard)
        with self.place.open(images_path(row.shard)) as file:
            first, second = (self._member(file, offsets, row, modality.name) for modality in self.header.modalities)
        return first, second

    def digest(self) -> str:
        """SHA-256 over the header: it names the plan, which names every pair's content."""
        return hashlib.sha256(self.place.read(HEADER)).hexdigest()

    def _member(self, file: Any, offsets: dict[str, tuple[int, int]], row: PlanRow, modality: str) -> bytes:
        place = offsets.get(f"{row.key}.{modality}")
        if place is None:
            raise StoreError(f"{self.place}/{images_path(row.shard)}: no {modality} image of {row.key}")
        file.seek(place[0])
        content: bytes = file.read(place[1])
        return content

    def _shard_offsets(self, shard: int) -> dict[str, tuple[int, int]]:
        if shard not in self._offsets:
            name = images_path(shard)
            if not self.place.exists(name):
                raise StoreError(f"{self.place}: {name} is missing")
            with self.place.open(name) as file, tarfile.open(fileobj=file, mode="r:") as archive:
                self._offsets[shard] = {
                    member.name.rpartition(".")[0]: (member.offset_data, member.size)
                    for member in archive
                    if member.isfile()
                }
        return self._offsets[shard]


def parse_header(content: bytes, where: str) -> StoreHeader:
    """store.json to a header. Raises StoreError naming what is wrong."""
    try:
        raw = json.loads(content)
        version = raw["schema_version"]
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{where}: store schema version {version!r}; this version of fusioncli reads {SCHEMA_VERSION}"
            )
        first, second = (Modality(name=str(one["name"]), channels=int(one["channels"])) for one in raw["modalities"])
        return StoreHeader(**{**raw, "modalities": (first, second)})
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{where}/{HEADER}: not the header of a store ({error})") from error


def read_table(content: bytes, where: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file's table. Raises StoreError when it cannot be read."""
    try:
        return pq.read_table(io.BytesIO(content), columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{where}: not a readable Parquet file ({error})") from error
