"""The fusion loss: five terms per sample, each weighted by that sample's own weight.

Linear in the weights by construction, so the mean of the losses under each event's weights is the loss under the
mean weights: stage one reduces all events of a pair to one vector without approximation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fusion.colour import chroma, luma
from fusion.ssim import Local
from pipeline.errors import InputError

TERMS = ("intensity", "consistency", "gradient", "ssim", "colour")


@dataclass(frozen=True, kw_only=True)
class FusionLoss:
    """``total`` (N,): the weighted sum. ``terms``: each term (N,), already weighted, in the order of TERMS."""

    total: Tensor
    terms: dict[str, Tensor]


def fusion_loss(visible: Tensor, infrared: Tensor, fused: Tensor, weights: Tensor) -> FusionLoss:
    """Compare fused images with both sources.

    visible: (N, 3, H, W) and infrared: (N, 1, H, W) in 0..1, sides at least 11 pixels; fused: (N, 3, H, W), not
    necessarily clamped; weights: (N, 5), one row per sample in the order of TERMS. Raises InputError on other shapes.
    """
    _check(visible, infrared, fused, weights)
    values = fusion_terms(visible, infrared, fused)
    terms = {name: weights[:, column] * values[name] for column, name in enumerate(TERMS)}
    return FusionLoss(total=torch.stack(list(terms.values())).sum(dim=0), terms=terms)


def fusion_terms(visible: Tensor, infrared: Tensor, fused: Tensor) -> dict[str, Tensor]:
    """The five unweighted terms, each (N,), 0 at best.

    - intensity: L1 to the infrared image wherever it is brighter than the mean of the visible channels, else to the
      visible image;
    - consistency: mean of the L1 distances of the fused luma to both sources' lumas;
    - gradient: L1 of the Sobel magnitude in x, and in y, to the stronger of both sources;
    - ssim: 1 − SSIM to the visible image in colour, plus 1 − SSIM of the fused luma to the infrared image;
    - colour: L1 of Cb plus L1 of Cr to the visible image.
    """
    grey_visible, grey_fused = luma(visible), luma(fused)
    stronger = torch.where(infrared > visible.mean(dim=1, keepdim=True), infrared.expand_as(visible), visible)
    consistency = _distance(grey_visible, grey_fused) + _distance(infrared, grey_fused)
    edges = torch.maximum(sobel(grey_visible).abs(), sobel(infrared).abs())
    similarity = Local(fused).ssim(Local(visible)) + Local(grey_fused).ssim(Local(infrared))
    return {
        "intensity": _distance(fused, stronger),
        "consistency": consistency / 2,
        "gradient": 2 * _distance(sobel(grey_fused).abs(), edges),  # twice: both directions are added, not averaged
        "ssim": 2 - similarity,
        "colour": 2 * _distance(chroma(fused), chroma(visible)),
    }


def sobel(plane: Tensor) -> Tensor:
    """(N, 2, H, W): horizontal and vertical Sobel response of an (N, 1, H, W) plane, borders replicated.

    Written as differences of smoothed planes: a small convolution with one channel is slow on a CPU.
    """
    padded = functional.pad(plane, (1, 1, 1, 1), mode="replicate")
    down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    across = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return torch.cat([down[..., 2:] - down[..., :-2], across[..., 2:, :] - across[..., :-2, :]], dim=1)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs().mean(dim=(1, 2, 3))


def _check(visible: Tensor, infrared: Tensor, fused: Tensor, weights: Tensor) -> None:
    number, _, height, width = visible.shape
    expected = {
        "visible": (visible, (number, 3, height, width)),
        "infrared": (infrared, (number, 1, height, width)),
        "fused": (fused, (number, 3, height, width)),
        "loss weights": (weights, (number, len(TERMS))),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise InputError(f"{name} of the fusion loss: found shape {tuple(tensor.shape)}, expected {shape}")
