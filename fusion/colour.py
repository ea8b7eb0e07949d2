"""Colour conversions on tensors: luma and chroma of ITU-R BT.601, full range."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.images import LUMA

RED, GREEN, BLUE = LUMA


def luma(image: Tensor) -> Tensor:
    """(N, 1, H, W) luma of an (N, 3, H, W) image; a one-channel image is its own luma. Range as the input's."""
    if image.shape[1] == 1:
        return image
    return RED * image[:, 0:1] + GREEN * image[:, 1:2] + BLUE * image[:, 2:3]


def chroma(image: Tensor) -> Tensor:
    """(N, 2, H, W) Cb and Cr of an (N, 3, H, W) image in 0..1; grey lies at 0.5."""
    grey = luma(image)
    blue = 0.5 + (image[:, 2:3] - grey) / (2 * (1 - BLUE))
    red = 0.5 + (image[:, 0:1] - grey) / (2 * (1 - RED))
    return torch.cat([blue, red], dim=1)
