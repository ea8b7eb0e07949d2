"""The loss terms of the edge students: differentiable forms of what a fused luma is judged by, one value per sample.

All planes are (N, 1, H, W) in 0..1, all terms (N,) with 0 as their best value (the VIF term may fall below it). They
pull against one another on purpose. Qabf and VIF alone reward copying one source, islands and haloes; the intensity,
departure and spurious terms keep the brightness of the stronger source and forbid contours that neither source has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from fusion.ssim import gaussian_blur

# Γ, κ, σ of Xydeas and Petrović (2000), "Objective image fusion performance measure"
QABF_STRENGTH = (0.9994, 15.0, 0.5)
QABF_ANGLE = (0.9879, 22.0, 0.8)
VIF_WINDOWS = (17, 9, 5, 3)  # Sheikh and Bovik (2006), pixel domain; σ = window / 5
VIF_NOISE = 2.0  # in squared grey levels of 0..255
SPURIOUS_SCALES = 5  # the image and its halvings: islands are as large as a coarse feature reaches
SPURIOUS_MARGIN = 1 / 255  # Sobel / 8: contours weaker than this are not seen
FAINT_RANGE = 8 / 255  # of full brightness: SSIM with its constants for the full range is blind to dark tissue
FAR_DARKER = (0.2, 0.4)  # of full brightness: from here a source counts as far darker, and from here wholly


def intensity_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """L1 to the brighter source at each pixel."""
    return _mean((fused - torch.maximum(luma, infrared)).abs())


def gradient_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """L1 to the stronger of both sources' Sobel responses, per direction, its sign kept (Sobel / 8)."""
    first, second, result = sobel(luma), sobel(infrared), sobel(fused)
    target = torch.where(first.abs() >= second.abs(), first, second)
    return _mean((result - target).abs())


def ssim_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """2 − SSIM(Y, F) − SSIM(I, F): Gaussian window 11, σ 1.5, data range 1."""
    return 2 - _ssim(luma, fused) - _ssim(infrared, fused)


def faint_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """The SSIM term with its constants for a range of 8 grey levels: dark tissue and empty ground count too."""
    return 2 - _ssim(luma, fused, FAINT_RANGE) - _ssim(infrared, fused, FAINT_RANGE)


def qabf_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """1 − Qabf, its angle taken from cross and dot product: smooth, and lines half a turn apart count as the same.

    The published scripts tell those apart, and take zeros outside the image, so the metric differs a little.
    """
    first, second, result = (sobel(plane) * (8 * 255) for plane in (luma, infrared, fused))
    strengths = [_strength(plane) for plane in (first, second, result)]
    kept = strengths[0] * _preserved(first, strengths[0], result, strengths[2])
    kept = kept + strengths[1] * _preserved(second, strengths[1], result, strengths[2])
    return 1 - kept.sum(dim=(1, 2, 3)) / (strengths[0] + strengths[1]).sum(dim=(1, 2, 3))


def vif_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """1 − √(VIF(Y, F)·VIF(I, F)): the geometric mean gives nothing for copying one source."""
    product = vif(luma, fused) * vif(infrared, fused)
    return 1 - (product + 1e-6).sqrt()


def departure_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """Low-frequency departure |G₆∗F − max(G₆∗Y, G₆∗I)|, its square added so that a few deep holes cost most."""
    low = [_low(plane) for plane in (luma, infrared, fused)]
    distance = (low[2] - torch.maximum(low[0], low[1])).abs()
    return _mean(distance + 8 * distance.square())


def spurious_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """Contours stronger than in both sources, |∇F| − max(|∇Y|, |∇I|), over five scales: edges, islands, haloes."""
    return _excess(fused, [luma, infrared], torch.ones_like(luma))


def intrusion_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """Contours the brighter source does not have, where the other is far darker: infrared clouds drawn into a white sky.

    Qabf and VIF reward them and the spurious term allows them, since they are in a source; they outline what the
    brightness of the fused image denies. |∇F| − |∇S| over five scales, S the source that is brighter around a pixel.
    """
    lead = functional.interpolate(_low(luma) - _low(infrared), luma.shape[-2:], mode="bilinear")
    lower, upper = FAR_DARKER
    far = ((lead.abs() - lower) / (upper - lower)).clamp(0, 1)
    return _excess(fused, [torch.where(lead > 0, luma, infrared)], far)


def _excess(fused: Tensor, sources: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Contours stronger than in every source, beyond a margin: weighted means of the image and its halvings, summed."""
    total = torch.zeros_like(fused[:, 0, 0, 0])
    planes = [weight, fused, *sources]
    for scale in range(SPURIOUS_SCALES):
        if scale:
            planes = [functional.avg_pool2d(plane, 2) for plane in planes]
        result, *allowed = (_strength(sobel(plane)) for plane in planes[1:])
        total = total + _mean(planes[0] * functional.relu(result - reduce(torch.maximum, allowed) - SPURIOUS_MARGIN))
    return total


def roughness_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """Change of the blend weight from pixel to pixel where that shows: weighted by the distance of both sources."""
    distance = (luma - infrared).abs()
    across = (blend[..., 1:] - blend[..., :-1]).abs() * distance[..., 1:]
    down = (blend[..., 1:, :] - blend[..., :-1, :]).abs() * distance[..., 1:, :]
    return _mean(across) + _mean(down)


def checker_term(luma: Tensor, infrared: Tensor, fused: Tensor, blend: Tensor) -> Tensor:
    """Squares in turn dark and bright, |F₀₀ − F₀₁ − F₁₀ + F₁₁| beyond that of both sources: no Sobel sees them."""
    first, second, result = (_corner(plane).abs() for plane in (luma, infrared, fused))
    return _mean(functional.relu(result - torch.maximum(first, second)))


def _corner(plane: Tensor) -> Tensor:
    return plane[..., :-1, :-1] - plane[..., :-1, 1:] - plane[..., 1:, :-1] + plane[..., 1:, 1:]


TERMS = {
    "intensity": intensity_term,
    "gradient": gradient_term,
    "ssim": ssim_term,
    "qabf": qabf_term,
    "vif": vif_term,
    "departure": departure_term,
    "spurious": spurious_term,
    "roughness": roughness_term,
    "checker": checker_term,
    "intrusion": intrusion_term,
    "faint": faint_term,
}


def _low(plane: Tensor) -> Tensor:
    """Low frequencies at a quarter of the size: a Gaussian of σ 6, taken as one of σ 1.5 on the reduced image."""
    return gaussian_blur(functional.pad(functional.avg_pool2d(plane, 4), (5, 5, 5, 5), mode="replicate"))


def sobel(plane: Tensor) -> Tensor:
    """Horizontal and vertical Sobel response / 8, (N, 2, H, W), replicated borders."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=plane.dtype) / 8
    kernel = torch.stack([across, across.T])[:, None].to(plane.device)
    return functional.conv2d(functional.pad(plane, (1, 1, 1, 1), mode="replicate"), kernel)


def vif(source: Tensor, fused: Tensor) -> Tensor:
    """Pixel-domain visual information fidelity over four scales, (N,); planes 0..1, sides at least 41 pixels."""
    source, fused = source * 255, fused * 255
    kept = total = torch.zeros_like(source[:, 0, 0, 0])
    for scale, window in enumerate(VIF_WINDOWS):
        sigma = window / 5
        if scale:
            source = gaussian_blur(source, window, sigma)[..., ::2, ::2]
            fused = gaussian_blur(fused, window, sigma)[..., ::2, ::2]
        mean_s, mean_f = gaussian_blur(source, window, sigma), gaussian_blur(fused, window, sigma)
        variance_s = (gaussian_blur(source.square(), window, sigma) - mean_s.square()).clamp(min=0)
        variance_f = (gaussian_blur(fused.square(), window, sigma) - mean_f.square()).clamp(min=0)
        covariance = gaussian_blur(source * fused, window, sigma) - mean_s * mean_f
        gain = covariance / (variance_s + 1e-6)
        rest = variance_f - gain * covariance
        backwards = gain < 0
        rest = torch.where(backwards, variance_f, rest).clamp(min=1e-6)
        gain = torch.where(backwards, torch.zeros_like(gain), gain)
        kept = kept + torch.log2(1 + gain.square() * variance_s / (rest + VIF_NOISE)).sum(dim=(1, 2, 3))
        total = total + torch.log2(1 + variance_s / VIF_NOISE).sum(dim=(1, 2, 3))
    return (kept + 1e-6) / (total + 1e-6)


def _ssim(source: Tensor, fused: Tensor, data_range: float = 1.0) -> Tensor:
    first, second = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_s, mean_f = gaussian_blur(source), gaussian_blur(fused)
    variance_s = (gaussian_blur(source.square()) - mean_s.square()).clamp(min=0)
    variance_f = (gaussian_blur(fused.square()) - mean_f.square()).clamp(min=0)
    covariance = gaussian_blur(source * fused) - mean_s * mean_f
    luminance = (2 * mean_s * mean_f + first) / (mean_s.square() + mean_f.square() + first)
    return _mean(luminance * (2 * covariance + second) / (variance_s + variance_f + second))


def _preserved(source: Tensor, source_strength: Tensor, fused: Tensor, fused_strength: Tensor) -> Tensor:
    smaller, larger = torch.minimum(source_strength, fused_strength), torch.maximum(source_strength, fused_strength)
    cross = (source[:, :1] * fused[:, 1:] - source[:, 1:] * fused[:, :1]).abs()
    dot = (source * fused).sum(dim=1, keepdim=True).abs()
    angle = 1 - torch.atan2(cross + 1e-6, dot + 1e-6) * (2 / math.pi)
    return _sigmoid(smaller / larger, *QABF_STRENGTH) * _sigmoid(angle, *QABF_ANGLE)


def _sigmoid(value: Tensor, ceiling: float, slope: float, middle: float) -> Tensor:
    return ceiling * torch.sigmoid(slope * (value - middle))


def _strength(gradient: Tensor) -> Tensor:
    return (gradient.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=(1, 2, 3))
