"""The bytes of a shard: a tar of images, a Parquet file of rows. Same content in, same bytes out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.store import PlanRow


def images_tar(rows: Sequence[PlanRow], contents: Sequence[tuple[bytes, bytes]], names: tuple[str, str]) -> bytes:
    """A WebDataset tar: ``<key>.<modality>.<ext>`` for both images of every pair, in plan order.

    Times, owners and modes are fixed, so the bytes depend on the images alone.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for row, pair in zip(rows, contents, strict=True):
            for path, name, content in zip((row.first, row.second), names, pair, strict=True):
                member = tarfile.TarInfo(f"{row.key}.{name}{PurePosixPath(path).suffix.lower()}")
                member.size, member.mode, member.mtime = len(content), 0o644, 0
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def parquet_bytes(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> bytes:
    """One row group, zstd, fixed settings."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(list(rows), schema=schema)
    pq.write_table(table, buffer, compression="zstd", compression_level=3, row_group_size=1 << 20, version="2.6")
    return buffer.getvalue()


def json_bytes(value: object) -> bytes:
    """Sorted, indented JSON with a final newline."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
