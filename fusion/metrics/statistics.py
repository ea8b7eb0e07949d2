"""Metrics of first and second order over the whole image: SD, CC, SCD, MSE, PSNR.

All take grey images (N, 1, H, W) of 0..255, tensors or Planes, and return (N,). NaN means undefined.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.metrics.planes import Grey, plane


def standard_deviation(fused: Grey) -> Tensor:
    """SD: ``sqrt(mean((F - mean F)^2))``, grey levels, 0..127.5, higher is better (and rises with plain noise).

    Source: Rao, "In-fibre Bragg grating sensors", Meas. Sci. Technol. 1997, as used across the fusion literature.
    """
    return plane(fused).values.flatten(1).std(dim=1, correction=0)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of two batches (N, ...) in -1..1; NaN where either is constant."""
    x = first.flatten(1) - first.flatten(1).mean(dim=1, keepdim=True)
    y = second.flatten(1) - second.flatten(1).mean(dim=1, keepdim=True)
    spread = x.square().sum(dim=1) * y.square().sum(dim=1)
    constant = _flat(first) | _flat(second)
    ratio = (x * y).sum(dim=1) / torch.where(constant, 1.0, spread).sqrt()
    return torch.where(constant, torch.nan, ratio)


def correlation_coefficient(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """CC: ``(r(A, F) + r(B, F)) / 2``, -1..1, higher is better. NaN where an image is constant."""
    a, b, f = plane(first).centred, plane(second).centred, plane(fused).centred
    return (correlation(a, f) + correlation(b, f)) / 2


def sum_of_correlations_of_differences(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """SCD: ``r(F - B, A) + r(F - A, B)``, -2..2, higher is better. NaN where a source or a difference is constant.

    Source: Aslantas and Bendes, "A new image quality metric for image fusion", AEU 2015.
    """
    a, b, f = plane(first).centred, plane(second).centred, plane(fused).centred
    return correlation(f - b, a) + correlation(f - a, b)


def mean_squared_error(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """MSE: ``(mean((A-F)^2) + mean((B-F)^2)) / 2`` with values scaled to 0..1, lower is better."""
    a, b, f = plane(first).values, plane(second).values, plane(fused).values
    errors = (a - f).square().mean(dim=(1, 2, 3)) + (b - f).square().mean(dim=(1, 2, 3))
    return errors / (2 * 255.0**2)


def peak_signal_to_noise_ratio(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """PSNR: ``10 log10(1 / MSE)`` in dB with the MSE above, higher is better. NaN where F = A = B."""
    error = mean_squared_error(first, second, fused)
    return torch.where(error > 0, -10 * torch.log10(error), torch.nan)


def _flat(image: Tensor) -> Tensor:
    flat = image.detach().flatten(1)
    return flat.amax(dim=1) - flat.amin(dim=1) < 1e-3  # constant up to rounding
