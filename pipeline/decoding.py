"""From planned pairs to what a captioner is given: the right bytes, decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.captioners.base import CaptionRequest
from pipeline.errors import ImageError, StoreError
from pipeline.events import Caption, failed_caption
from pipeline.image_folder import file_stem
from pipeline.images import read_image
from pipeline.plan import PlanRow

Decoded = dict[str, CaptionRequest | Caption]


def decode(rows: Sequence[PlanRow], contents: Callable[[PlanRow], tuple[bytes, bytes]]) -> Decoded:
    """Requests by key; for a pair whose pixels cannot be read, its failure (that pair's, not the run's).

    ``contents`` gives both files of a pair: of the data root or of the store's tar.
    """
    decoded: Decoded = {}
    for row in rows:
        files = zip(contents(row), (row.first, row.second), strict=True)
        try:
            first, second = (read_image(content, name=name) for content, name in files)
        except ImageError as error:
            decoded[row.key] = failed_caption("image", str(error))
        else:
            stem = file_stem(Path(row.first))
            decoded[row.key] = CaptionRequest(key=row.key, pair_id=row.pair_id, first=first, second=second, stem=stem)
    return decoded


def only(decoded: Decoded, rows: Sequence[PlanRow]) -> Decoded:
    """The part of a decoded shard that is still wanted."""
    return {row.key: decoded[row.key] for row in rows}


def pair_bytes(row: PlanRow, root: Path) -> tuple[bytes, bytes]:
    """Both source files of a pair. Raises StoreError as ``planned_bytes`` does."""
    return (
        planned_bytes(root / row.first, row.first_sha256, row.first_bytes),
        planned_bytes(root / row.second, row.second_sha256, row.second_bytes),
    )


def planned_bytes(path: Path, sha256: str, size: int) -> bytes:
    """A source file's content. Raises StoreError when it is not the file that was planned."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreError(
            f"{path}: planned, but no longer there; restore it, or make a new store with --store DIR"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise StoreError(
            f"{path}: the data changed since the plan was made: sha256 was {sha256[:16]}… ({size} bytes), now "
            f"{found[:16]}… ({len(content)} bytes); restore the file, or make a new store with --store DIR"
        )
    return content
