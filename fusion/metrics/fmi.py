"""Feature mutual information: how much of the sources' features, window by window, the fused image shares."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.planes import Grey, plane, undefined

WINDOW = 3
WINDOWS_AT_ONCE = 16384  # a row of their joint distributions, 9 numbers a window, stays in the processor's cache
TINY = 1e-37  # added where a logarithm of 0 would be multiplied by 0


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
    a, b, f = (nn.unfold(feature(image), WINDOW) for image in images)  # (N, 9, P)
    scores = []
    for planes in zip(a, b, f, strict=True):
        parts = []
        for chunk in zip(*(windows.split(WINDOWS_AT_ONCE, dim=1) for windows in planes), strict=True):
            pa, pb, pf = map(distribution, chunk)
            parts.append((shared_part(pa, pf) + shared_part(pb, pf)) / 2)
        scores.append(torch.cat(parts).mean())
    return torch.stack(scores)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """P windows of nine ``features`` (9, P) read as distributions: ``p`` (9, P), and of each ``entropy`` and ``variance``
    of the place, (P,)."""

    features: Tensor
    p: Tensor
    entropy: Tensor
    variance: Tensor


def distribution(features: Tensor) -> Distribution:
    """Windows (9, P), shifted to a minimum of 0 and divided by their sum; flat ones are uniform."""
    shifted = features - features.amin(dim=0)
    total = shifted.sum(dim=0)
    p = torch.where(total > 0, shifted / torch.where(total > 0, total, 1.0), 1 / len(features))
    places = torch.arange(1, len(p) + 1, dtype=p.dtype, device=p.device)
    return Distribution(
        features=features,
        p=p,
        entropy=-p.add(TINY).log_().mul_(p).sum(dim=0),
        variance=(places.square() @ p - (places @ p).square()).clamp_min(0),
    )


def shared_part(one: Distribution, two: Distribution) -> Tensor:
    """``2 I / (H + H)`` of windows, (P,), mostly in 0..1.

    A correlation stronger than the bound's makes some joint "probabilities" negative; like the authors' script, this
    takes the logarithm of their magnitude. Where the correlation is negative the places of the second window are read
    backwards, which turns the lower bound into the upper one and changes no entropy.
    """
    p, q = one.p, two.p
    correlation = _correlation(p, q)
    q = torch.where(correlation < 0, q.flip(0), q)
    below_p, below_q = p.cumsum(dim=0), q.cumsum(dim=0)
    spread = (one.variance * two.variance).sqrt()
    covariance = _bound_sum(below_p, below_q) - below_p.sum(dim=0) * below_q.sum(dim=0)
    extreme = covariance / spread.clamp_min(1e-12)
    usable = (spread > 1e-12) & (extreme.abs() > 1e-12)
    share = torch.where(usable, correlation.abs() / torch.where(usable, extreme, 1.0), 0.0)
    own = one.entropy + two.entropy
    shared = own - _joint_entropy(p * (1 - share), q, below_p * share, below_q * share)
    part = torch.where(own > 0, 2 * shared / torch.where(own > 0, own, 1.0), 0.0)
    return torch.where((one.features == two.features).all(dim=0), 1.0, part)


def _bound_sum(below_p: Tensor, below_q: Tensor) -> Tensor:
    """Sum over all pairs of places of the Fréchet bound ``min(P, Q)``, (P,)."""
    room = torch.empty_like(below_q)
    total = torch.zeros_like(below_q)
    for row in below_p:
        total.add_(torch.minimum(row, below_q, out=room))
    return total.sum(dim=0)


def _joint_entropy(p: Tensor, q: Tensor, below_p: Tensor, below_q: Tensor) -> Tensor:
    """Entropy of ``p q`` plus the mass that the bound of the (scaled) cumulated ``below`` puts on each pair of places.

    Row by row of the 9 x 9 table, in memory used again: the time goes into these few lines.
    """
    total, room = torch.zeros_like(q), torch.empty_like(q)
    before, bound = torch.zeros_like(q), torch.empty_like(q)
    for row, below in zip(p, below_p, strict=True):
        torch.minimum(below, below_q, out=bound)
        torch.sub(bound, before, out=room)
        room[1:].sub_(bound[:-1]).add_(before[:-1])
        joint = room.addcmul_(row, q)
        logarithm = torch.mul(joint, joint, out=before).add_(TINY).log_()  # twice the logarithm of the magnitude
        total.addcmul_(joint, logarithm)
        before, bound = bound, before
    return total.sum(dim=0) / -2


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


def _correlation(p: Tensor, q: Tensor) -> Tensor:
    x, y = p - p.mean(dim=0), q - q.mean(dim=0)
    spread = (x.square().sum(dim=0) * y.square().sum(dim=0)).sqrt()
    return torch.where(spread > 1e-12, (x * y).sum(dim=0) / spread.clamp_min(1e-12), 0.0)
