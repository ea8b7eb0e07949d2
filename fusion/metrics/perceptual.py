"""Metrics that model what an eye sees: Qcb (Chen and Blum), Qcv (Chen and Varshney) and Qy (Yang).

All take grey images (N, 1, H, W) of 0..255, tensors or Planes, and return (N,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.gradients import sobel
from fusion.metrics.planes import Grey, Plane, plane, undefined
from fusion.metrics.windows import gaussian_window, local_mean

CONTRAST_WINDOWS = (2.0, 4.0)
CONTRAST_RADIUS = 15
REGION = 16
YANG_WINDOW = gaussian_window(7, 1.5)
ALIKE = 0.75


def qcb(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Qcb: how well local contrast, as an eye sees it, is kept; 0..1, higher is better.

    Images stretched to 0..255 and filtered by the difference of Gaussians ``exp(-(r/15.387)^2) - .7622
    exp(-(r/1.3456)^2)`` (r in cycles over a thirtieth of the image); contrast ``|G2 / G4 - 1|`` masked to
    ``C^3 / (C^2 + .0001)``; the ratio of the smaller to the larger masked contrast, weighted by the squares of the
    sources'. Where both are 0 the ratio is 1 and the weights are equal.

    Source: Chen and Blum, "A new automated quality assessment algorithm for image fusion", Image Vis. Comput. 2009.
    """
    a, b, f = (_masked_contrast(plane(image)) for image in (first, second, fused))
    weights = a.square() + b.square()
    share = torch.where(weights > 0, a.square() / torch.where(weights > 0, weights, 1.0), 0.5)
    return (share * _ratio(a, f) + (1 - share) * _ratio(b, f)).mean(dim=(1, 2, 3))


def qcv(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Qcv: visible difference from the sources in salient regions, squared grey levels, 0 upwards, **lower** is better.

    Images stretched to 0..255; the differences A - F and B - F pass the contrast sensitivity ``2.6 (.0192 + .144 r)
    exp(-(.144 r)^1.1)`` (r in cycles over an eighth of the image); their mean squares in 16 x 16 regions are weighted by
    the sums of the fifth powers of the sources' Sobel magnitudes. NaN where neither source has an edge.

    Source: Chen and Varshney, "A human perception inspired quality metric for image fusion based on regional
    information", Inf. Fusion 2007.
    """
    a, b, f = (_stretched(plane(image)) for image in (first, second, fused))
    top = torch.zeros((), dtype=f.dtype, device=f.device)
    bottom = torch.zeros((), dtype=f.dtype, device=f.device)
    sensitivity = _mannos(f)
    for source in (a, b):
        across, down = sobel(source)
        salience = _regions((across.square() + down.square()) ** 2.5)
        seen = torch.fft.ifft2(torch.fft.fft2(source - f) * sensitivity).real
        top = top + (salience * _regions(seen.square())).sum(dim=(1, 2, 3))
        bottom = bottom + salience.sum(dim=(1, 2, 3))
    return torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1.0) / REGION**2, torch.nan)


def qy(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """Qy: local SSIM with the sources, -1..1, higher is better; NaN where a side is under 7 pixels.

    Where the sources are alike (local SSIM of at least .75) both count, weighted by their variances; elsewhere the
    better of the two. 7 x 7 Gaussian of sigma 1.5, no stabilising constants: two flat windows are alike.

    Source: Yang, Zhang, Wang and Liu, "A novel similarity based quality metric for image fusion", Inf. Fusion 2008.
    """
    a, b, f = plane(first), plane(second), plane(fused)
    if min(f.size) < len(YANG_WINDOW):
        return undefined(f)
    between, with_a, with_b = _bare_ssim(a, b), _bare_ssim(a, f), _bare_ssim(b, f)
    variance_a, variance_b = _yang_moments(a)[1], _yang_moments(b)[1]
    both = variance_a + variance_b
    share = torch.where(both > 0, variance_a / torch.where(both > 0, both, 1.0), 0.5)
    alike = share * with_a + (1 - share) * with_b
    return torch.where(between >= ALIKE, alike, torch.maximum(with_a, with_b)).mean(dim=(1, 2, 3))


def _stretched(image: Plane) -> Tensor:
    values = image.values
    low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high > low, torch.round((values - low) / torch.where(high > low, high - low, 1.0) * 255), 0.0)


def _radius(image: Tensor, part: float) -> Tensor:
    """Distance from zero frequency of each FFT coefficient, in cycles over ``1 / part`` of the image."""
    height, width = image.shape[-2:]
    down = torch.fft.fftfreq(height, dtype=image.dtype, device=image.device) * 2 * height / part
    across = torch.fft.fftfreq(width, dtype=image.dtype, device=image.device) * 2 * width / part
    radius: Tensor = (down[:, None].square() + across[None, :].square()).sqrt()
    return radius


def _mannos(image: Tensor) -> Tensor:
    r = _radius(image, 8)
    fall: Tensor = torch.exp(-torch.pow(0.144 * r, 1.1))
    return 2.6 * (0.0192 + 0.144 * r) * fall


def _masked_contrast(image: Plane) -> Tensor:
    def compute() -> Tensor:
        stretched = _stretched(image)
        r = _radius(stretched, 30)
        sensitivity = torch.exp(-((r / 15.387) ** 2)) - 0.7622 * torch.exp(-((r / 1.3456) ** 2))
        seen = torch.fft.ifft2(torch.fft.fft2(stretched) * sensitivity).real
        near, far = (local_mean(seen, _open_window(sigma), zeros_around=True) for sigma in CONTRAST_WINDOWS)
        dark = far.abs() < 1e-3  # nothing but the rounding of the transform: no contrast is seen there
        contrast = torch.where(dark, 0.0, near / torch.where(dark, 1.0, far) - 1).abs()
        return contrast**3 / (contrast.square() + 1e-4)

    return image.recall("masked contrast", compute)


def _open_window(sigma: float) -> tuple[float, ...]:
    """A Gaussian cut at 15 pixels, with the weights of the uncut one."""
    scale = 1 / (math.sqrt(2 * math.pi) * sigma)
    return tuple(scale * math.exp(-(i**2) / (2 * sigma**2)) for i in range(-CONTRAST_RADIUS, CONTRAST_RADIUS + 1))


def _ratio(one: Tensor, two: Tensor) -> Tensor:
    large = torch.maximum(one, two)
    return torch.where(large > 0, torch.minimum(one, two) / torch.where(large > 0, large, 1.0), 1.0)


def _regions(values: Tensor) -> Tensor:
    """Sum in each 16 x 16 region; regions at the right and lower border are filled up with zeros."""
    height, width = values.shape[-2:]
    padded = nn.pad(values, (0, -width % REGION, 0, -height % REGION))
    return nn.avg_pool2d(padded, REGION) * REGION**2


def _yang_moments(image: Plane) -> tuple[Tensor, Tensor]:
    def compute() -> tuple[Tensor, Tensor]:
        values = image.centred
        mean, square = local_mean(torch.cat([values, values.square()], dim=1), YANG_WINDOW).chunk(2, dim=1)
        variance = square - mean.square()
        return mean, torch.where(variance < 1e-6 * square, 0.0, variance)

    return image.recall("yang moments", compute)


def _bare_ssim(one: Plane, two: Plane) -> Tensor:
    (mean_x, variance_x), (mean_y, variance_y) = _yang_moments(one), _yang_moments(two)
    cross = local_mean(one.centred * two.centred, YANG_WINDOW) - mean_x * mean_y
    x, y = mean_x + one.centre, mean_y + two.centre
    level = x.square() + y.square()
    luminance = torch.where(level > 1e-6, 2 * x * y / level.clamp_min(1e-6), 1.0)
    spread = variance_x + variance_y
    # a flat window has no covariance; two flat windows are equal in structure
    cross = torch.where((variance_x > 0) & (variance_y > 0), cross, 0.0)
    structure = torch.where(spread > 0, 2 * cross / torch.where(spread > 0, spread, 1.0), 1.0)
    return luminance * structure
