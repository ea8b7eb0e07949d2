"""Qabf: how much of the sources' edges the fused image keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fusion.metrics.gradients import sobel
from fusion.metrics.planes import Grey, Plane, plane

STRENGTH = (0.9994, -15.0, 0.5)
ORIENTATION = (0.9879, -22.0, 0.8)


def qabf(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Qabf: share of the sources' edge strength and orientation found in F, 0..1, higher is better. Differentiable.

    ``sum(Q_AF w_A + Q_BF w_B) / sum(w_A + w_B)``, w the Sobel magnitude (zeros outside the image), Q the product of two
    sigmoids, of the ratio of magnitudes (T .9994, k -15, D .5) and of the agreement of orientations (T .9879, k -22,
    D .8). Where two magnitudes are equal the published scripts use the magnitude itself as the ratio; so does this.

    grey images (N, 1, H, W) of 0..255, tensors or Planes; returns (N,), NaN where both sources are black (elsewhere the zeros outside make the border an edge).
    Source: Xydeas and Petrovic, "Objective image fusion performance measure", Electronics Letters 2000.
    """
    a, b, f = (edges(plane(image)) for image in (first, second, fused))
    kept = (preserved(a, f) * a.strength + preserved(b, f) * b.strength).sum(dim=(1, 2, 3))
    there = (a.strength + b.strength).sum(dim=(1, 2, 3))
    return torch.where(there > 0, kept / torch.where(there > 0, there, 1.0), torch.nan)


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Sobel strength, and orientation in -pi/2..pi/2, each (N, 1, H, W)."""

    strength: Tensor
    angle: Tensor


def edges(image: Plane) -> Edges:
    """The edges of an image, zeros outside it."""

    def compute() -> Edges:
        across, down = sobel(image)
        square, upright = across.square() + down.square(), across == 0
        # sqrt at 0 and 0 / 0 would give an optimiser NaN; looking away from them costs a third
        if square.requires_grad:
            strength = torch.where(square > 0, square.clamp_min(1e-12).sqrt(), 0.0)
            across = torch.where(upright, 1.0, across)
        else:
            strength = square.sqrt()
        angle = torch.where(upright, math.pi / 2, torch.atan(-down / across))
        return Edges(strength=strength, angle=angle)

    return image.recall("edges", compute)


def preserved(source: Edges, fused: Edges) -> Tensor:
    """Q of each pixel, (N, 1, H, W), 0..0.987."""
    small, large = torch.minimum(source.strength, fused.strength), torch.maximum(source.strength, fused.strength)
    equal = small == large
    ratio = torch.where(equal, fused.strength, small / torch.where(equal, 1.0, large))
    agreement = 1 - (source.angle - fused.angle).abs() * (2 / math.pi)
    return _sigmoid(ratio, STRENGTH) * _sigmoid(agreement, ORIENTATION)


def _sigmoid(value: Tensor, shape: tuple[float, float, float]) -> Tensor:
    top, slope, middle = shape
    return top * torch.sigmoid(-slope * (value - middle))
