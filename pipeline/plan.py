"""The plan of a store: every pair once, in order, with the hashes of its files. Made once and never edited."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PairingError, StoreError
from pipeline.images import file_content
from pipeline.pairs import Pair, pair_size

if TYPE_CHECKING:
    import pyarrow

KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TASK = 32  # pairs that a hashing thread takes at a time


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One pair. ``first`` and ``second`` are relative to the data root; sizes in bytes; hashes are SHA-256 in hex.

    ``offset`` is the byte of the shard's tar at which the pair starts: it follows from the rows before and is not stored.
    """

    key: str
    pair_id: str
    shard: int
    split: str
    first: str
    second: str
    first_sha256: str
    second_sha256: str
    first_bytes: int
    second_bytes: int
    height: int
    width: int
    offset: int = 0


COLUMNS = tuple(field.name for field in fields(PlanRow) if field.name != "offset")
_cells = attrgetter(*COLUMNS)
NUMBERS = frozenset({"shard", "first_bytes", "second_bytes", "height", "width"})


def planned_rows(pairs: Sequence[Pair], root: Path, shard_size: int) -> Iterator[PlanRow]:
    """Hash every pair, in the order given. Raises PairingError and ImageError naming the file.

    ``pair_id`` hashes both files' content, so it survives renaming; the key and the position do not enter it.
    """

    def row(position: int) -> PlanRow:
        pair = pairs[position]
        first, second = file_content(pair.first), file_content(pair.second)
        height, width = pair_size(pair, (first, second))
        hashes = hashlib.sha256(first).hexdigest(), hashlib.sha256(second).hexdigest()
        return PlanRow(
            key=pair.key,
            pair_id=pair_identity(*hashes),
            shard=position // shard_size,
            split=pair.split,
            first=_relative(pair.first, root),
            second=_relative(pair.second, root),
            first_sha256=hashes[0],
            second_sha256=hashes[1],
            first_bytes=len(first),
            second_bytes=len(second),
            height=height,
            width=width,
        )

    def some(positions: range) -> list[PlanRow]:
        return [row(position) for position in positions]

    with ThreadPoolExecutor(4) as pool:  # reading and hashing leave the interpreter lock
        for start in range(0, len(pairs), 4 * TASK):
            window = range(start, min(start + 4 * TASK, len(pairs)))
            yield from chain.from_iterable(pool.map(some, (window[i : i + TASK] for i in range(0, len(window), TASK))))


def pair_identity(first_sha256: str, second_sha256: str) -> str:
    """Identity of a pair: a hash of both contents, in order; 32 hex digits."""
    return hashlib.sha256(f"pair {first_sha256} {second_sha256}".encode()).hexdigest()[:32]


def digest_line(row: PlanRow) -> bytes:
    """What a row adds to the plan's digest: its content, the same whichever library version wrote the file."""
    return json.dumps(_cells(row), ensure_ascii=True).encode() + b"\n"


def check_rows(rows: Sequence[PlanRow], where: str, *, start: int, shard_size: int) -> None:
    """Refuse rows that could write outside their store or hold a pair twice; ``start`` is the first one's position.

    Raises StoreError naming the row.
    """
    before = ""
    for position, row in enumerate(rows, start):
        at = f"{where}: key {row.key[:80]!r}"
        if any(cell is None for cell in _cells(row)):
            raise StoreError(f"{at}: a plan has no empty cells")
        if not KEY.fullmatch(row.key):
            raise StoreError(f"{at}: a key has letters, digits, _ and - only, at most 80")
        if row.key <= before:
            raise StoreError(f"{at} is there twice" if row.key == before else f"{at} is out of order")
        before = row.key
        for path in (row.first, row.second):
            if not safe_relative(path):
                raise StoreError(f"{at}: the path {path[:80]!r} leaves the data root")
        if not SHA256.fullmatch(row.first_sha256) or not SHA256.fullmatch(row.second_sha256):
            raise StoreError(f"{at}: not a SHA-256")
        if row.pair_id != pair_identity(row.first_sha256, row.second_sha256):
            raise StoreError(f"{at}: pair_id does not follow from the files' hashes")
        if row.shard != position // shard_size or min(row.height, row.width, row.first_bytes, row.second_bytes) < 1:
            raise StoreError(
                f"{at}: shard {row.shard}, {row.width} x {row.height} pixels: not a plan this program made"
            )


def safe_relative(path: str) -> bool:
    """Whether a stored path stays below the root it is relative to."""
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and ".." not in parts and "\0" not in path and len(path) < 4096


def image_suffix(path: str) -> str:
    """The file's suffix in lower case, as it goes into the tar. Raises StoreError for an odd one."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 (asked for every image several times)
    if not SUFFIX.fullmatch(suffix):
        raise StoreError(f"{path[:80]!r}: not a usable image suffix")
    return suffix


def plan_table(rows: Sequence[PlanRow]) -> pyarrow.Table:
    """The plan as a table of the fixed schema."""
    import pyarrow as pa

    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pa.table(columns, schema=plan_schema())


def plan_schema() -> pyarrow.Schema:
    """Column types of ``plan.parquet``."""
    import pyarrow as pa

    return pa.schema([(name, pa.int64() if name in NUMBERS else pa.string()) for name in COLUMNS])


def _relative(path: Path, root: Path) -> str:
    home = os.path.join(root.absolute(), "")  # noqa: PTH118 (with its separator; links below the root are fine)
    text = str(path.absolute())
    if not text.startswith(home) or not is_utf8(text):
        raise PairingError(f"{path!a}: must lie below the data root {root} and have a valid UTF-8 name")
    return text[len(home) :].replace(os.sep, "/")


def is_utf8(text: str) -> bool:
    """Whether a file's name can be written down (on Linux a name is any bytes)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
