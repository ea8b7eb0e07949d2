"""Metrics from histograms of 8-bit grey levels: EN, MI, NMI, in bits.

All take grey images (N, 1, H, W) of 0..255, tensors or Planes; values are rounded to 256 levels. They return (N,)
float64 and are not differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.metrics.planes import LEVELS, Grey, count_codes, plane


def histogram(image: Grey) -> Tensor:
    """(N, 256) float64 share of pixels on each grey level."""
    grey = plane(image)
    return grey.counts.double() / grey.codes.shape[1]


def joint_histogram(first: Grey, second: Grey) -> Tensor:
    """(N, 256, 256) float64 share of pixels on each pair of grey levels."""
    one, two = plane(first), plane(second)

    def compute() -> Tensor:
        counts = count_codes(one.codes * LEVELS + two.codes, LEVELS * LEVELS)
        return counts.view(-1, LEVELS, LEVELS).double() / one.codes.shape[1]

    return two.recall(("joint", one), compute)


def entropy(fused: Grey) -> Tensor:
    """EN: ``-sum p log2 p`` over 256 levels, bits, 0..8, higher is better (and rises with plain noise).

    Source: Shannon 1948; for fusion Roberts et al., J. Appl. Remote Sens. 2008.
    """
    return _bits(histogram(fused))


def mutual_information(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """MI: ``I(A; F) + I(B; F)`` with ``I(X; F) = H(X) + H(F) - H(X, F)``, bits, 0..16, higher is better.

    Source: Qu, Zhang and Yan, "Information measure for performance of image fusion", Electronics Letters 2002.
    """
    return shared_information(first, fused) + shared_information(second, fused)


def normalized_mutual_information(first: Grey, second: Grey, fused: Grey) -> Tensor:
    """NMI: ``2 [I(A;F) / (H(A)+H(F)) + I(B;F) / (H(B)+H(F))]``, no unit, 0..2, higher is better.

    NaN where two images are both constant. Source: Hossny, Nahavandi and Creighton, Electronics Letters 2008.
    """
    score = torch.zeros(())
    for source in (plane(first), plane(second)):
        total = entropy(source) + entropy(fused)
        score = score.to(total) + torch.where(total > 0, 2 * shared_information(source, fused) / total, torch.nan)
    return score


def shared_information(first: Grey, second: Grey) -> Tensor:
    """``I(X; Y)`` of two grey images in bits."""
    one, two = plane(first), plane(second)
    joint = _bits(joint_histogram(one, two).flatten(1))
    return (entropy(one) + entropy(two) - joint).clamp_min(0)


def _bits(share: Tensor) -> Tensor:
    return -(torch.xlogy(share, share)).sum(dim=1) / torch.log(torch.tensor(2.0, dtype=share.dtype))
