"""A network whose answer is known, pictures to give it, and what every Fuser must stand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusion import Fuser
from fusion.catalog import NETWORKS
from fusion.weights import save_weights


def fresh_weights(folder: Path) -> Path:
    """The nano network with its fresh weights: a soft maximum of both lumas, which keeps the visible chroma."""
    torch.manual_seed(0)
    save_weights(folder, NETWORKS["nano"].build(), "# fresh\n")
    return folder


def soft_maximum(visible: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """What the fresh network computes, written out: Y + (1 - sigmoid(6 (Y - I))) (I - Y), added to every channel."""
    luma = visible @ np.array([0.299, 0.587, 0.114])
    share = 1 - 1 / (1 + np.exp(-6 * (luma - infrared)))
    return (visible + (share * (infrared - luma))[..., None]).clip(0, 1)


def picture(path: Path, size: tuple[int, int], mode: str, seed: int) -> Path:
    shape = size if mode in ("L", "I;16") else (*size, len(mode))
    top, kind = (65535, np.uint16) if mode == "I;16" else (255, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, top + 1, shape).astype(kind)).save(path)
    return path


def assert_safe_in_threads(fuser: Fuser) -> None:
    """Pairs that four threads fuse at the same time come out as they do one after the other."""
    generator = np.random.default_rng(0)
    pairs = [
        (generator.random((40, 48, 3), dtype=np.float32), generator.random((40, 48), dtype=np.float32))
        for _ in range(12)
    ]
    alone = [fuser(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: fuser(*pair), pairs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
