"""What many of these tests take: a fuser, and a small real store of drawn pairs, measured captions, hashed embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.inference import Fuser


def draw_pair(folder: Path, index: int, height: int = 72, width: int = 88) -> None:
    """Smooth shapes with texture; the infrared image has a warm spot that the visible one lacks."""
    random = np.random.default_rng(index)
    rows, columns = np.mgrid[:height, :width] / 20.0
    base = 0.5 + 0.3 * np.sin(rows * random.uniform(0.5, 3)) * np.cos(columns * random.uniform(0.5, 3))
    colour = np.dstack([base * random.uniform(0.4, 1), base, base * random.uniform(0.4, 1)])
    visible = np.clip(colour + random.normal(0, 0.03, colour.shape), 0, 1)
    y, x = random.uniform(0, height / 20), random.uniform(0, width / 20)
    warm = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) * 3)
    infrared = np.clip(0.2 + 0.2 * base + 0.6 * warm + random.normal(0, 0.02, base.shape), 0, 1)
    for name, picture in (("vi", visible), ("ir", infrared)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255).astype(np.uint8)).save(folder / name / f"{index:03d}.png")


def make_store(
    home: Path,
    *,
    pairs: int = 8,
    first: int = 0,
    width: int = 512,
    name: str = "store",
    size: tuple[int, int] = (72, 88),
) -> Path:
    """Draw pairs under ``home`` and caption them into ``home/name``."""
    from pipeline.captioning import CaptionOptions, caption_pairs
    from pipeline.sources import find_source

    for index in range(first, first + pairs):
        draw_pair(home / f"{name}-pairs", index, *size)
    source = find_source(None, (home / f"{name}-pairs" / "vi", home / f"{name}-pairs" / "ir"), None, None, None)
    options = CaptionOptions(
        store=str(home / name),
        captioner="measured",
        embedder="hashing",
        embedder_settings={"width": str(width)},
        workers=1,
        shard_size=3,
    )
    caption_pairs(options, source)
    return home / name


@pytest.fixture(scope="session")
def fuser() -> Fuser:
    """The smallest shipped network, on the CPU."""
    return Fuser.from_pretrained("nano", device="cpu")


@pytest.fixture(scope="session")
def new_store() -> Callable[..., Path]:
    """Make another store: ``new_store(folder, pairs=8, first=0, width=512, name="store", size=(72, 88))``."""
    return make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs in three shards, all in the split "train"."""
    return make_store(tmp_path_factory.mktemp("store"))
