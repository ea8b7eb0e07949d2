"""Small pairs to benchmark, drawn, and what a benchmark of them is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from fusion.bench_run import BenchOptions

SIZE = (64, 80)
METRICS = ("EN", "VIF", "Qabf", "SSIM")


def draw(folder: Path, stems: list[str], seed: int, colour: bool) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for stem in stems:
        small = rng.integers(0, 256, size=(8, 10, 3) if colour else (8, 10), dtype=np.uint8)
        Image.fromarray(small).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC).save(folder / f"{stem}.png")


def drawn_root(tmp_path: Path) -> Path:
    """Four drawn test pairs laid out as the data set ``synthetic``."""
    stems = [f"test-{index}" for index in range(4)]
    draw(tmp_path / "data" / "synthetic" / "vi", stems, 1, colour=True)
    draw(tmp_path / "data" / "synthetic" / "ir", stems, 2, colour=False)
    return tmp_path / "data"


def options(root: Path, **changes: object) -> BenchOptions:
    base = BenchOptions(
        datasets=("synthetic",), root=root, out=root.parent / "bench", metrics=METRICS, cost=False, device="cpu"
    )
    return replace(base, **changes)


def maxima(root: Path, folder: Path) -> Path:
    """A rival's folder: the pixel maximum in grey, made without this project."""
    folder.mkdir()
    for path in sorted((root / "synthetic" / "vi").iterdir()):
        visible = np.asarray(Image.open(path).convert("L"))
        infrared = np.asarray(Image.open(root / "synthetic" / "ir" / path.name))
        Image.fromarray(np.maximum(visible, infrared)).save(folder / path.name)
    return folder
