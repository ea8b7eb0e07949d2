"""A network whose answer is known, and pictures to give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

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
