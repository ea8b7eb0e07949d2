"""Nabf: edges of the fused image that neither source has."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusion.metrics.gradients import sobel
from fusion.metrics.planes import Grey, Plane, plane, undefined

STRENGTH = (0.9999, 19.0, 0.5)
ORIENTATION = (0.9995, 22.0, 0.5)
VISIBLE_EDGE = 2.0  # Sobel / 8, grey levels
WEIGHT_POWER = 1.5


def nabf(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Nabf: share of edge information that is artefact, 0..1, **lower** is better.

    Where F's Sobel magnitude (divided by 8, image mirrored at its border) exceeds both sources', the sources' weights
    times ``1 - Q`` are summed and divided by the sum of all weights. A weight is the magnitude to the power 1.5 from
    2 grey levels up, else 0 (0.001 in the author's MATLAB, 0 in the Python scripts in use); Q is the root of the
    product of two sigmoids, of the magnitudes' ratio (.9999, 19, .5) and the orientations' agreement (.9995, 22, .5).

    grey images (N, 1, H, W) of 0..255, tensors or Planes; returns (N,), NaN where the sources have no edge of 2 grey
    levels. Source: Shreyamsha Kumar, "Multifocus and multispectral image fusion based on pixel significance using
    discrete cosine harmonic wavelet transform", SIViP 2013.
    """
    if min(plane(fused).size) < 2:
        return undefined(plane(fused))
    a, b, f = (_edges(plane(image)) for image in (first, second, fused))
    invented = (f[0] > a[0]) & (f[0] > b[0])
    weights = [torch.where(x[0] >= VISIBLE_EDGE, x[0] ** WEIGHT_POWER, 0.0) for x in (a, b)]
    lost = [(1 - _preserved(x, f)) * weight for x, weight in zip((a, b), weights, strict=True)]
    artefact = torch.where(invented, lost[0] + lost[1], 0.0).sum(dim=(1, 2, 3))
    there = (weights[0] + weights[1]).sum(dim=(1, 2, 3))
    return torch.where(there > 0, artefact / torch.where(there > 0, there, 1.0), torch.nan)


def _edges(image: Plane) -> tuple[Tensor, Tensor]:
    def compute() -> tuple[Tensor, Tensor]:
        across, down = (part / 8 for part in sobel(image, "reflect"))
        flat = (across == 0) & (down == 0)
        upright = across == 0
        angle = torch.where(upright, math.pi / 2 * down.sign(), torch.atan(down / torch.where(upright, 1.0, across)))
        return (across.square() + down.square()).sqrt(), torch.where(flat, 0.0, angle)

    return image.recall("nabf edges", compute)


def _preserved(source: tuple[Tensor, Tensor], fused: tuple[Tensor, Tensor]) -> Tensor:
    small, large = torch.minimum(source[0], fused[0]), torch.maximum(source[0], fused[0])
    ratio = torch.where(small > 0, small / torch.where(large > 0, large, 1.0), 0.0)
    agreement = ((source[1] - fused[1]).abs() - math.pi / 2).abs() * (2 / math.pi)
    strength = STRENGTH[0] * torch.sigmoid(STRENGTH[1] * (ratio - STRENGTH[2]))
    orientation = ORIENTATION[0] * torch.sigmoid(ORIENTATION[1] * (agreement - ORIENTATION[2]))
    return (strength * orientation).sqrt()
