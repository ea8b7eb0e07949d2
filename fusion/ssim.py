"""Differentiable structural similarity (Wang et al. 2004): Gaussian window of 11 pixels, σ 1.5, data range 1."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
STABILISERS = (0.01**2, 0.03**2)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """(N,) mean SSIM of two (N, C, H, W) images in 0..1, sides at least 11, averaged over pixels and channels.

    Only pixels whose whole window lies inside count, as in the reference implementation of the authors. Statistics
    are biased (population) ones.
    """
    return Local(first).ssim(Local(second))


class Local:
    """An image with its local mean and variance, so that one image compared with two others is blurred once."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.mean = _blur(image)
        self.variance = _blur(image.square()) - self.mean.square()

    def ssim(self, other: Local) -> Tensor:
        """(N,) mean SSIM with another image of the same shape."""
        covariance = _blur(self.image * other.image) - self.mean * other.mean
        small, large = STABILISERS
        brightness = (2 * self.mean * other.mean + small) / (self.mean.square() + other.mean.square() + small)
        structure = (2 * covariance + large) / (self.variance + other.variance + large)
        return (brightness * structure).mean(dim=(1, 2, 3))


def _blur(image: Tensor) -> Tensor:
    """Gaussian blur of the windows that lie inside, as two products with band matrices (fast on crops)."""
    height, width = image.shape[-2:]
    across = _bands(width).to(image)
    down = across if height == width else _bands(height).to(image)
    return down.T @ (image @ across)


@lru_cache(maxsize=64)
def _bands(size: int) -> Tensor:
    """(size, size − 10): column k holds the Gaussian over rows k … k + 10."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * SIGMA * SIGMA))
    kernel = kernel / kernel.sum()
    columns = torch.arange(size - WINDOW + 1)
    matrix = torch.zeros(size, len(columns), dtype=torch.float64)
    for row in range(WINDOW):
        matrix[columns + row, columns] = kernel[row]
    return matrix.float()
