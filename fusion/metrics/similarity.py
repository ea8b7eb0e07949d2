"""Structural similarity of the fused image with its sources: SSIM and MS-SSIM, sums over both.

All take grey images (N, 1, H, W) of 0..255, tensors or Planes; differentiable in every argument.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.planes import Grey, Plane, plane, undefined
from fusion.metrics.windows import box_window, gaussian_window, local_means

WINDOW = gaussian_window(11, 1.5)
UNIFORM_WINDOW = box_window(7)
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST_MS_SSIM_SIDE = 161  # four halvings must leave more than an 11-pixel window


def ssim(first: Grey, second: Grey, fused: Grey, data_range: float = 255.0) -> Tensor:
    """SSIM: ``SSIM(A, F) + SSIM(B, F)``, -2..2, higher is better; NaN where a side is under 11 pixels.

    11 x 11 Gaussian window of sigma 1.5, full windows only, K1 = .01, K2 = .03, population variances.
    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Process. 2004.
    """
    f = plane(fused)
    if min(f.size) < len(WINDOW):
        return undefined(f)
    pairs = _compare(plane(first), plane(second), f, data_range)
    return pairs[0][0] + pairs[1][0]


def ms_ssim(first: Grey, second: Grey, fused: Grey, data_range: float = 255.0) -> Tensor:
    """MS-SSIM: the product of contrast-structure terms over five scales, sum over sources, 0..2, higher is better.

    Scales by 2 x 2 means (an odd side gets a row of zeros in front, counted in the mean, as the toolkits do); negative
    terms count as 0. NaN where a side is under 161 pixels.
    Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity", Asilomar 2003.
    """
    a, b, f = plane(first), plane(second), plane(fused)
    if min(f.size) < SMALLEST_MS_SSIM_SIDE:
        return undefined(f)
    products = [torch.ones((), dtype=f.values.dtype, device=f.values.device)] * 2
    for scale, weight in enumerate(SCALE_WEIGHTS):
        last = scale == len(SCALE_WEIGHTS) - 1
        pairs = _compare(a, b, f, data_range)
        products = [
            product * nn.relu(pair[0] if last else pair[1]) ** weight
            for product, pair in zip(products, pairs, strict=True)
        ]
        if not last:
            a, b, f = _half(a), _half(b), _half(f)
    return products[0] + products[1]


def uniform_ssim(first: Grey, second: Grey, fused: Grey, data_range: float = 255.0) -> Tensor:
    """SSIM over both sources as scikit-image computes it by default: 7 x 7 equal weights, sample variances (/ 48)."""
    f = plane(fused)
    if min(f.size) < len(UNIFORM_WINDOW):
        return undefined(f)
    pairs = _compare(plane(first), plane(second), f, data_range, UNIFORM_WINDOW, 49 / 48)
    return pairs[0][0] + pairs[1][0]


def _compare(
    a: Plane, b: Plane, f: Plane, data_range: float, window: tuple[float, ...] = WINDOW, correction: float = 1.0
) -> list[tuple[Tensor, Tensor]]:
    """For each source (mean SSIM, mean contrast-structure term), each (N,)."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    key = ("ssim moments", window)
    fresh = [image for image in (f, a, b) if image.remembered(key) is None]
    maps = [a.centred * f.centred, b.centred * f.centred]
    maps += [part for image in fresh for part in (image.centred, image.centred.square())]
    # one pass over everything that is not known yet: the cost is by the pass more than by the map
    means = local_means(maps, window)
    for place, image in enumerate(fresh):
        mean, square = means[2 + 2 * place : 4 + 2 * place]
        image.recall(key, partial(_moments, mean, square, correction))
    mean_f, variance_f = f.remembered(key)
    pairs = []
    for source, cross in ((a, means[0]), (b, means[1])):
        mean, variance = source.remembered(key)
        structure = (2 * correction * (cross - mean * mean_f) + c2) / (variance + variance_f + c2)
        m, mf = mean + source.centre, mean_f + f.centre
        luminance = (2 * m * mf + c1) / (m.square() + mf.square() + c1)
        pairs.append(((luminance * structure).mean(dim=(1, 2, 3)), structure.mean(dim=(1, 2, 3))))
    return pairs


def _moments(mean: Tensor, square: Tensor, correction: float) -> tuple[Tensor, Tensor]:
    """Local mean (of the centred image) and variance under a window."""
    return mean, (square - mean.square()) * correction


def _half(image: Plane) -> Plane:
    def compute() -> Plane:
        odd = [side % 2 for side in image.size]
        return Plane(nn.avg_pool2d(image.values, 2, padding=odd))

    return image.recall("half", compute)
