"""What the usual metrics are blind to: departures of brightness from both sources, invented edges, lost targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.gradients import sobel
from fusion.metrics.planes import Grey, Plane, plane
from fusion.metrics.windows import gaussian_window, local_mean

SMOOTH_RADIUS = 18
SMOOTH_WINDOW = gaussian_window(2 * SMOOTH_RADIUS + 1, 6.0)
EDGE_MARGIN = 8.0
RING = 0.5


def low_frequency_departure(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """``mean |G6*F - max(G6*A, G6*B)|`` in grey levels, 0..255, lower is better.

    G6 is a Gaussian of sigma 6 (cut at 18 pixels, border repeated). The pixel maximum has 1 to 2, networks that cut black
    holes into the sky have 20 and more, whatever their VIF. grey images (N, 1, H, W) of 0..255; returns (N,).
    """
    a, b, f = (_smooth(plane(image)) for image in (first, second, fused))
    return (f - torch.maximum(a, b)).abs().mean(dim=(1, 2, 3))


def spurious_edge_share(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Share of pixels where ``|∇F| - max(|∇A|, |∇B|) > 8`` (Sobel / 8, border repeated), 0..1, lower is better; (N,)."""
    a, b, f = (_steepness(plane(image)) for image in (first, second, fused))
    return (f - torch.maximum(a, b) > EDGE_MARGIN).float().mean(dim=(1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class TargetRetention:
    """Per box (K,): the fused target's mean ``level`` (0..255), its brightness and its contrast to its surroundings as
    shares of the sources'."""

    level: Tensor
    brightness: Tensor
    contrast: Tensor


def target_retention(first: Grey, second: Grey, fused: Grey, boxes: Tensor) -> TargetRetention:
    """Whether targets stay bright and stand out: 1 is as in the better source, under 1 is lost, higher is better.

    ``boxes`` (K, 4) holds x0, y0, x1, y1 in pixels (x1, y1 exclusive) in a batch of one image. Brightness is the mean of
    F in the box over the larger of the sources' means. Contrast is the difference of the means inside the box and in a
    ring half a box wide around it, with the sign of the source where it is larger, over that source's. NaN where the
    sources have none, or a box is empty or outside the image.
    """
    planes = [plane(image).values[0, 0] for image in (first, second, fused)]
    height, width = planes[0].shape
    level: list[Tensor] = []
    brightness: list[Tensor] = []
    contrast: list[Tensor] = []
    for x0, y0, x1, y1 in boxes.round().long().tolist():
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if right <= left or bottom <= top:
            for values in (level, brightness, contrast):
                values.append(planes[0].new_full((), torch.nan))
            continue
        dx, dy = max(1, round(RING * (right - left))), max(1, round(RING * (bottom - top)))
        around = (slice(max(top - dy, 0), min(bottom + dy, height)), slice(max(left - dx, 0), min(right + dx, width)))
        inside = [image[top:bottom, left:right] for image in planes]
        area, ring_area = inside[0].numel(), planes[0][around].numel() - inside[0].numel()
        means = [part.mean() for part in inside]
        rings = [
            (image[around].sum() - mean * area) / ring_area if ring_area else mean
            for image, mean in zip(planes, means, strict=True)
        ]
        stands = [mean - ring for mean, ring in zip(means, rings, strict=True)]
        level.append(means[2])
        brightness.append(_share(means[2], torch.maximum(means[0], means[1])))
        strongest = stands[0] if stands[0].abs() > stands[1].abs() else stands[1]
        contrast.append(_share(stands[2], strongest))
    stacked = [torch.stack(values) if values else planes[0].new_zeros(0) for values in (level, brightness, contrast)]
    return TargetRetention(level=stacked[0], brightness=stacked[1], contrast=stacked[2])


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole.abs() > 1e-6, part / torch.where(whole.abs() > 1e-6, whole, 1.0), torch.nan)


def _smooth(image: Plane) -> Tensor:
    def compute() -> Tensor:
        margin = (SMOOTH_RADIUS,) * 4
        return local_mean(nn.pad(image.values, margin, mode="replicate"), SMOOTH_WINDOW)

    return image.recall("smooth", compute)


def _steepness(image: Plane) -> Tensor:
    across, down = sobel(image, "replicate")
    return (across.square() + down.square()).sqrt() / 8
