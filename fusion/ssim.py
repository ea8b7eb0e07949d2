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
        self.mean = gaussian_blur(image)
        self.variance = gaussian_blur(image.square()) - self.mean.square()

    def ssim(self, other: Local) -> Tensor:
        """(N,) mean SSIM with another image of the same shape."""
        covariance = gaussian_blur(self.image * other.image) - self.mean * other.mean
        small, large = STABILISERS
        brightness = (2 * self.mean * other.mean + small) / (self.mean.square() + other.mean.square() + small)
        structure = (2 * covariance + large) / (self.variance + other.variance + large)
        return (brightness * structure).mean(dim=(1, 2, 3))


def gaussian_blur(image: Tensor, window: int = WINDOW, sigma: float = SIGMA) -> Tensor:
    """(N, C, H, W) under a Gaussian of ``window`` pixels, where the whole window lies inside: ``window`` − 1 pixels less a side.

    As two products with band matrices: on crops many times faster on a CPU than one-channel convolutions.
    """
    height, width = image.shape[-2:]
    across = _bands(width, window, sigma).to(image)
    down = across if height == width else _bands(height, window, sigma).to(image)
    return down.T @ (image @ across)


@lru_cache(maxsize=128)
def _bands(size: int, window: int, sigma: float) -> Tensor:
    """(size, size − window + 1): column k holds the Gaussian over rows k … k + window − 1."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    kernel = torch.exp(-offsets.square() / (2 * sigma * sigma))
    kernel = kernel / kernel.sum()
    columns = torch.arange(size - window + 1)
    matrix = torch.zeros(size, len(columns), dtype=torch.float64)
    for row in range(window):
        matrix[columns + row, columns] = kernel[row]
    return matrix.float()
