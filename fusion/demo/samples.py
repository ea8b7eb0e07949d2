"""The pairs a visitor can pick without having any: drawn street scenes, and those of two folders if named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.demo.shelf import Item, Shelf
from pipeline.errors import ImageError
from pipeline.images import file_content
from pipeline.pairs import pair_folders
from pipeline.synth import draw_pair

DRAWN = 4  # scenes: one for each hour of the day
SEED = 11
MOST = 24  # of two folders


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Two images to begin with; ``files`` is None for a scene that is drawn when asked for."""

    title: str
    files: tuple[Path, Path] | None = None
    scene: int = 0


def list_samples(folders: tuple[Path, Path] | None) -> list[Sample]:
    """The named folders' pairs (evenly spaced when there are many), then drawn scenes. Raises PairingError."""
    found: list[Sample] = []
    if folders is not None:
        pairs = list(pair_folders(*folders))
        step = max(1, -(-len(pairs) // MOST))
        found = [Sample(title=pair.stem, files=(pair.first, pair.second)) for pair in pairs[::step]]
    return found + [Sample(title=f"drawn street {number + 1}", scene=number) for number in range(DRAWN)]


def take_sample(shelf: Shelf, sample: Sample) -> Sequence[Item]:
    """Put copies of both images on the shelf. Raises ImageError when a file has gone."""
    if sample.files is not None:
        items = [shelf.place(path.name) for path in sample.files]
        try:
            for item, path in zip(items, sample.files, strict=True):
                item.path.write_bytes(file_content(path))
        except ImageError:
            for item in items:
                shelf.drop(item)
            raise
        return items
    drawn = draw_pair(SEED, sample.scene)
    items = [shelf.place(f"{sample.title} {modality}.png") for modality in ("visible", "infrared")]
    for item, picture in zip(items, (drawn.clean_visible, drawn.clean_infrared), strict=True):
        Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(item.path, format="PNG")
    return items
