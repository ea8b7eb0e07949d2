"""Smooth random pictures for the metrics' tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.uint8]


def texture(seed: int, size: tuple[int, int] = (176, 168), sigma: float = 2.0) -> Image:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), sigma)
    return (20 + 200 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
