"""How far the metrics themselves can be pushed: the pixels of a fused image optimised for VIF and Qabf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fusion.baselines import luma
from fusion.methods import Pixels, as_batch, as_pixels
from fusion.metrics.planes import plane
from fusion.metrics.qabf import qabf
from fusion.metrics.vif import vif
from pipeline.errors import InputError

STEPS = 150
RATE = 0.01  # of full brightness a step, falling to nothing by a cosine


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The optimised image (H, W) uint8, and VIF + Qabf of its start and of itself, both after rounding to 8 bits."""

    image: Pixels
    start: float
    reached: float


def push(visible: Pixels, infrared: Pixels, *, steps: int = STEPS, vif_share: float = 1.0) -> Ceiling:
    """Climb ``vif_share * VIF + Qabf`` from the pixel maximum, by Adam on the pixels of one grey image.

    visible (H, W[, 3]), infrared (H, W), uint8. A local search: what it reaches can be reached, so it bounds the
    ceiling from below, and a method above it is possible. Raises InputError where VIF is undefined (a side under 41).
    """
    first, second = luma(as_batch(visible)) * 255, as_batch(infrared) * 255
    a, b = plane(first.round()), plane(second)
    pixels = torch.maximum(a.values, b.values).div(255).clone().requires_grad_()

    def value(image: torch.Tensor) -> torch.Tensor:
        scaled = plane(image.clamp(0, 1) * 255)
        return (vif_share * vif(a, b, scaled) + qabf(a, b, scaled)).sum()

    def rounded(image: torch.Tensor) -> float:
        with torch.no_grad():
            return float(value(as_batch(as_pixels(image))))

    start = rounded(pixels)
    if not np.isfinite(start):
        height, width = visible.shape[:2]
        raise InputError(
            f"{width} x {height} pixels: VIF or Qabf is undefined here, so there is no ceiling to look for"
        )
    best, reached = pixels.detach().clone(), start
    optimiser = torch.optim.Adam([pixels], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        (-value(pixels)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if step % 25 == 0 or step == steps:
            now = rounded(pixels)
            if now > reached:
                best, reached = pixels.detach().clone(), now
    return Ceiling(image=as_pixels(best), start=start, reached=reached)


def covered(score: float, floor: float, ceiling: float) -> float | None:
    """Share of the way from ``floor`` to ``ceiling`` that a score covers; None where there is no way to go."""
    return (score - floor) / (ceiling - floor) if ceiling > floor else None
