"""Feature mutual information: how much of the sources' features, window by window, the fused image shares."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.planes import Grey, plane, undefined

WINDOW = 3
WINDOWS_AT_ONCE = 8192  # keeps the joint distributions (81 numbers a window) within the processor's cache


def fmi_pixel(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """FMI of the grey levels themselves, 0..1, higher is better. See ``feature_mutual_information``."""
    return feature_mutual_information(first, second, fused, lambda image: image)


def fmi_gradient(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """FMI of the gradient magnitude (central differences), 0..1, higher is better."""
    return feature_mutual_information(first, second, fused, gradient_magnitude)


def fmi_dct(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """FMI of the image's cosine transform (orthonormal DCT-II of the whole image), 0..1, higher is better."""
    return feature_mutual_information(first, second, fused, cosine_transform)


def feature_mutual_information(first: Grey, second: Grey, fused: Grey, feature: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean over all 3 x 3 windows of ``I(a;f) / (H(a)+H(f)) + I(b;f) / (H(b)+H(f))``, (N,), 0..1, not differentiable.

    The nine features of a window, shifted to a minimum of 0 and divided by their sum, are read as a distribution over
    its nine places. The joint distribution of two windows lies between independence and the Fréchet bound, as far
    from the former as their correlation is from that bound's; equal windows count as 1. Not calibrated against a toolkit.

    grey images (N, 1, H, W) of 0..255, tensors or Planes; NaN where a side is under 3 pixels.
    Source: Haghighat, Aghagolzadeh and Seyedarabi, "A non-reference image fusion metric based on mutual information of
    image features", Comput. Electr. Eng. 2011; Haghighat and Razian, "Fast-FMI", AICT 2014.
    """
    images = [plane(image).values.detach() for image in (first, second, fused)]
    if min(images[2].shape[-2:]) < WINDOW:
        return undefined(plane(fused))
    a, b, f = (_windows(feature(image)) for image in images)
    scores = [
        torch.cat(
            [(shared_part(pa, pf) + shared_part(pb, pf)) / 2 for pa, pb, pf in _chunks(one_a, one_b, one_f)]
        ).mean()
        for one_a, one_b, one_f in zip(a, b, f, strict=True)
    ]
    return torch.stack(scores)


def shared_part(one: Tensor, two: Tensor) -> Tensor:
    """``2 I / (H + H)`` of windows (P, 9) of features, (P,), mostly in 0..1.

    A correlation stronger than the bound's makes some joint "probabilities" negative; like the authors' script, this
    takes the logarithm of their magnitude.
    """
    equal = (one == two).all(dim=1)
    p, q = _distribution(one), _distribution(two)
    places = torch.arange(1, p.shape[1] + 1, dtype=p.dtype, device=p.device)
    below_p, below_q = p.cumsum(dim=1), q.cumsum(dim=1)
    independent = p[:, :, None] * q[:, None, :]
    correlation = _correlation(p, q)
    positive = correlation >= 0
    x, y = below_p[:, :, None], below_q[:, None, :]
    bound = torch.where(positive[:, None, None], torch.minimum(x, y), (x + y - 1).clamp_min(0))
    covariance = (bound - x * y).sum(dim=(1, 2))
    spread = (_variance(p, places) * _variance(q, places)).sqrt()
    extreme = covariance / spread.clamp_min(1e-12)
    usable = (spread > 1e-12) & (extreme.abs() > 1e-12)
    share = torch.where(usable, correlation / torch.where(usable, extreme, 1.0), 0.0)[:, None, None]
    edge = nn.pad(bound, (1, 0, 1, 0))
    joint_bound = edge[:, 1:, 1:] - edge[:, :-1, 1:] - edge[:, 1:, :-1] + edge[:, :-1, :-1]
    joint = share * joint_bound + (1 - share) * independent
    own = _entropy(p) + _entropy(q)
    shared = own - _entropy(joint.flatten(1))
    part = torch.where(own > 0, 2 * shared / torch.where(own > 0, own, 1.0), 0.0)
    return torch.where(equal, 1.0, part)


def gradient_magnitude(image: Tensor) -> Tensor:
    """``sqrt(dx^2 + dy^2)`` by central differences."""
    across, down = torch.gradient(image, dim=(-1, -2))
    return (across.square() + down.square()).sqrt()


def cosine_transform(image: Tensor) -> Tensor:
    """Orthonormal DCT-II of the whole image."""
    rows, columns = (_cosines(side, image) for side in image.shape[-2:])
    return rows @ image @ columns.T


def _cosines(length: int, like: Tensor) -> Tensor:
    places = torch.arange(length, dtype=torch.float64)
    basis = torch.cos(math.pi / length * (places + 0.5) * places[:, None]) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis.to(like)


def _windows(feature: Tensor) -> list[Tensor]:
    return [columns.T for columns in nn.unfold(feature, WINDOW)]


def _chunks(*windows: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(torch.split(one, WINDOWS_AT_ONCE) for one in windows), strict=True))


def _distribution(windows: Tensor) -> Tensor:
    shifted = windows - windows.amin(dim=1, keepdim=True)
    total = shifted.sum(dim=1, keepdim=True)
    return torch.where(total > 0, shifted / torch.where(total > 0, total, 1.0), 1 / windows.shape[1])


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    x, y = p - p.mean(dim=1, keepdim=True), q - q.mean(dim=1, keepdim=True)
    spread = (x.square().sum(dim=1) * y.square().sum(dim=1)).sqrt()
    return torch.where(spread > 1e-12, (x * y).sum(dim=1) / spread.clamp_min(1e-12), 0.0)


def _variance(p: Tensor, places: Tensor) -> Tensor:
    mean = (p * places).sum(dim=1)
    return ((p * places.square()).sum(dim=1) - mean.square()).clamp_min(0)


def _entropy(p: Tensor) -> Tensor:
    return -torch.xlogy(p, p.abs()).sum(dim=1)
