"""NIQE: how far the fused image's statistics are from those of good photographs, without a reference."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.planes import Grey, plane
from fusion.metrics.windows import gaussian_window, local_mean

PATCH = 96
SHARP = 0.75
WINDOW = gaussian_window(7, 7 / 6)
SHAPES = torch.arange(0.2, 10.0, 0.001, dtype=torch.float64)
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True, kw_only=True)
class NaturalModel:
    """Mean (36,) and covariance (36, 36) of the features of sharp patches of good photographs, and what they were."""

    mean: Tensor
    covariance: Tensor
    source: str


def niqe(fused: Grey) -> Tensor:
    """NIQE: distance of the image's patch statistics from the model of good photographs, 0 upwards, lower is better.

    36 features of each 96 x 96 patch (two scales) from locally normalised grey levels: the shape and spread of their
    generalised Gaussian, and four parameters of the asymmetric one of each of four products of neighbours. The distance
    is ``sqrt((m1 - m2)^T ((S1 + S2) / 2)^-1 (m1 - m2))`` between the Gaussians of both sets of features.

    The model shipped here was **fitted by this project on its own pictures** (``NaturalModel.source`` says which), not by
    the authors: compare values only with values made here. grey images (N, 1, H, W) of 0..255; returns (N,), NaN where
    there are fewer than two patches. Source: Mittal, Soundararajan and Bovik, "Making a completely blind image quality
    analyzer", IEEE Signal Process. Lett. 2013.
    """
    image = plane(fused).values.detach()
    model = shipped_model()
    return torch.stack([_distance(patch_features(one[None])[0], model) for one in image]).to(image)


@lru_cache(maxsize=1)
def shipped_model() -> NaturalModel:
    """The model that comes with the package."""
    content = json.loads(files("fusion.metrics").joinpath("natural_model.json").read_text())
    mean, covariance = (torch.tensor(content[name], dtype=torch.float64) for name in ("mean", "covariance"))
    return NaturalModel(mean=mean, covariance=covariance, source=str(content["source"]))


def fit_model(images: Sequence[Tensor], source: str) -> NaturalModel:
    """Fit the model on good photographs, each (1, 1, H, W) of 0..255: patches at least 75 % as sharp as the sharpest."""
    kept = []
    for image in images:
        features, sharpness = patch_features(image)
        kept.append(features[sharpness > SHARP * sharpness.max()] if len(sharpness) else features)
    features = torch.cat(kept)
    features = features[features.isfinite().all(dim=1)]
    return NaturalModel(mean=features.mean(dim=0), covariance=features.T.cov(), source=source)


def patch_features(image: Tensor) -> tuple[Tensor, Tensor]:
    """Features (P, 36) float64 of the whole patches of one image (1, 1, H, W), and their sharpness (P,)."""
    rows, columns = (side // PATCH for side in image.shape[-2:])
    if rows * columns == 0:
        return torch.zeros(0, 36, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    image = image[..., : rows * PATCH, : columns * PATCH].float()
    features, sharpness = [], torch.zeros(0)
    for scale in (1, 2):
        if scale == 2:
            image = nn.interpolate(image, scale_factor=0.5, mode="bicubic", antialias=True)
        normal, spread = _normalised(image)
        size = PATCH // scale
        if scale == 1:
            sharpness = _patches(spread, size).mean(dim=1).double()
        parts = [_shape_and_spread(_patches(normal, size).double())]
        for down, across in NEIGHBOURS:
            product = normal * torch.roll(normal, (down, across), dims=(-2, -1))
            parts.append(_asymmetric(_patches(product, size).double()))
        features.append(torch.cat(parts, dim=1))
    return torch.cat(features, dim=1).cpu(), sharpness.cpu()


def _normalised(image: Tensor) -> tuple[Tensor, Tensor]:
    """Grey levels minus their local mean, over their local deviation plus 1; and that deviation."""
    padded = nn.pad(image - image.mean(), (3, 3, 3, 3), mode="replicate")
    mean, square = local_mean(torch.cat([padded, padded.square()], dim=1), WINDOW).chunk(2, dim=1)
    spread = (square - mean.square()).clamp_min(0).sqrt()
    return (padded[..., 3:-3, 3:-3] - mean) / (spread + 1), spread


def _patches(values: Tensor, size: int) -> Tensor:
    return nn.unfold(values, size, stride=size)[0].T


def _shape_and_spread(values: Tensor) -> Tensor:
    shape, left, right = _fit(values)
    return torch.stack([shape, (left + right) / 2], dim=1)


def _asymmetric(values: Tensor) -> Tensor:
    shape, left, right = _fit(values)
    mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
    return torch.stack([shape, mean, left, right], dim=1)


def _fit(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shape, left and right scale of the asymmetric generalised Gaussian of each row, by matching moments."""
    squares, below = values.square(), values < 0
    left = (squares * below).sum(dim=1) / below.sum(dim=1)
    right = (squares * (values > 0)).sum(dim=1) / (values > 0).sum(dim=1)
    ratio = (left / right).sqrt()
    moment = values.abs().mean(dim=1).square() / squares.mean(dim=1)
    wanted = moment * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square()
    shapes = SHAPES.to(values)
    ratios = torch.exp(2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes))
    shape = shapes[torch.searchsorted(ratios, wanted.nan_to_num(0.5)).clamp_max(len(shapes) - 1)]
    widen = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return shape, left.sqrt() * widen, right.sqrt() * widen


def _distance(features: Tensor, model: NaturalModel) -> Tensor:
    features = features[features.isfinite().all(dim=1)]
    if len(features) < 2:
        return torch.tensor(math.nan, dtype=torch.float64)
    off = features.mean(dim=0) - model.mean
    middle = (features.T.cov() + model.covariance) / 2
    squared: Tensor = off @ torch.linalg.pinv(middle, hermitian=True) @ off
    return squared.clamp_min(0).sqrt()
