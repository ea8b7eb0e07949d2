"""Visual information fidelity of the fused image with its sources, in the pixel domain over four scales."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fusion.metrics.planes import Grey, Plane, plane, undefined
from fusion.metrics.windows import gaussian_window, local_mean, local_means

LENGTHS = (17, 9, 5, 3)
VISUAL_NOISE = 2.0
TINY = 1e-10


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of the four scales, and whether they reach over the border onto zeros."""

    weights: tuple[tuple[float, ...], ...]
    zeros_around: bool = False


Scales = list[tuple[Tensor, Tensor, Tensor]]  # for each scale an image, its local mean and its local variance
WINDOWS = Windows(weights=tuple(gaussian_window(length, length / 5) for length in LENGTHS))
SMALLEST_SIDE = 41  # below it the last scale has no full window


def vif(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """VIF: ``VIF(A, F) + VIF(B, F)``, no unit, 0 upwards (2 for F = A = B), higher is better. Differentiable.

    ``VIF(X, F) = sum log(1 + g^2 s_X / (s_v + n)) / sum log(1 + s_X / n)`` over all windows of four scales, where s_X
    is the local variance of the source, g the local gain that predicts F from it, s_v what is left of F's variance,
    and n = 2 the variance of visual noise. Gaussian windows of 17, 9, 5 and 3 pixels, sigma a fifth of that, full
    windows only; each scale is the one before, smoothed and every second pixel kept.

    grey images (N, 1, H, W) of 0..255, tensors or Planes; returns (N,), NaN where a source is constant or a side is
    under 41 pixels. Source: Sheikh and Bovik, "Image information and visual quality", IEEE Trans. Image Process. 2006;
    for fusion Han et al., Inf. Fusion 2013.
    """
    to_first, to_second = vif_of_each(first, second, fused)
    return to_first + to_second


def mean_vif(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """VIF averaged over both sources instead of summed: half of ``vif``, 1 for F = A = B."""
    return vif(first, second, fused) / 2


def vif_of_each(first: Grey, second: Grey, fused: Grey, windows: Windows = WINDOWS) -> tuple[Tensor, Tensor]:
    """``VIF(A, F)`` and ``VIF(B, F)``, each (N,)."""
    a, b, f = plane(first), plane(second), plane(fused)
    if min(f.size) < SMALLEST_SIDE:
        return undefined(f), undefined(f)
    kept = [torch.zeros((), dtype=f.values.dtype, device=f.values.device)] * 2
    key = ("vif scales", windows)
    known = [source.remembered(key) for source in (a, b)]
    scaled: list[Scales] = [list(one) if one else [] for one in known]
    current = [_start(image, windows) for image in (a, b, f)]
    for scale, window in enumerate(windows.weights):
        if scale:
            current = [
                known[index][scale][0] if index < 2 and known[index] else _next(image, window, windows)
                for index, image in enumerate(current)
            ]
        # one pass over everything that is not known yet: the cost is by the pass more than by the map
        fresh = [index for index in (0, 1) if not known[index]]
        maps = [current[2], current[2].square(), current[0] * current[2], current[1] * current[2]]
        maps += [part for index in fresh for part in (current[index], current[index].square())]
        means = local_means(maps, window, windows.zeros_around)
        for place, index in enumerate(fresh):
            mean, square = means[4 + 2 * place : 6 + 2 * place]
            scaled[index].append((current[index], mean, (square - mean.square()).clamp_min(0)))
        variance_f = (means[1] - means[0].square()).clamp_min(0)
        for index in (0, 1):
            _, mean, variance = scaled[index][scale]
            kept[index] = kept[index] + information_kept(variance, variance_f, means[2 + index] - mean * means[0])
    for source, levels in zip((a, b), scaled, strict=True):
        source.recall(key, partial(list, levels))
    totals = [information_there(levels) for levels in scaled]
    to_first, to_second = (
        torch.where(total > 0, share / torch.where(total > 0, total, 1.0), torch.nan)
        for share, total in zip(kept, totals, strict=True)
    )
    return to_first, to_second


def information_kept(source: Tensor, fused: Tensor, covariance: Tensor) -> Tensor:
    """Sum of ``log(1 + g^2 s_X / (s_v + n))``, (N,), from local variances and covariance."""
    gain = torch.where(source >= TINY, covariance.clamp_min(0) / (source + TINY), 0.0)
    left = (fused - gain * covariance).clamp_min(TINY)
    return torch.log1p(gain.square() * source / (left + VISUAL_NOISE)).sum(dim=(1, 2, 3))


def information_there(scaled: Scales) -> Tensor:
    """Sum of ``log(1 + s_X / n)`` over all scales, (N,)."""
    return torch.stack([torch.log1p(variance / VISUAL_NOISE).sum(dim=(1, 2, 3)) for _, _, variance in scaled]).sum(0)


def _next(image: Tensor, window: tuple[float, ...], windows: Windows) -> Tensor:
    return local_mean(image, window, windows.zeros_around, step=2)


def _start(image: Plane, windows: Windows) -> Tensor:
    # the zeros around an image are zeros of its own scale: there the values must not be shifted
    return image.values.double() if windows.zeros_around else image.centred
