"""Sliding windows: local means by separable convolution, one pass for a whole stack of maps."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as nn


@lru_cache(maxsize=64)
def gaussian_window(length: int, sigma: float) -> tuple[float, ...]:
    """``length`` samples of a Gaussian centred on the window, sum 1."""
    centre = (length - 1) / 2
    samples = [math.exp(-((i - centre) ** 2) / (2 * sigma**2)) for i in range(length)]
    total = math.fsum(samples)
    return tuple(sample / total for sample in samples)


@lru_cache(maxsize=16)
def box_window(length: int) -> tuple[float, ...]:
    """``length`` equal weights, sum 1."""
    return (1 / length,) * length


def local_mean(maps: Tensor, window: tuple[float, ...], zeros_around: bool = False) -> Tensor:
    """Weighted mean of every full window, rows and columns alike; or of one window per pixel, zeros outside the image.

    ``maps`` is (N, C, H, W); the answer (N, C, H - n + 1, W - n + 1), or (N, C, H, W) with ``zeros_around``. Depthwise
    and channels last, which is what makes it fast on a CPU. Differentiable.
    """
    channels = maps.shape[1]
    taps = torch.tensor(window, dtype=maps.dtype, device=maps.device)
    across = taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1).contiguous()
    down = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1).contiguous()
    stack = maps.contiguous(memory_format=torch.channels_last)
    margin = len(window) // 2 if zeros_around else 0
    rows = nn.conv2d(stack, across, groups=channels, padding=(0, margin))
    return nn.conv2d(rows, down, groups=channels, padding=(margin, 0))
