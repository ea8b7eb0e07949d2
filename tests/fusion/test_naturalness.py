"""NIQE: its fit, its model, and the features of a patch against a plain NumPy version."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fusion.metrics import naturalness
from textures import texture


def test_niqe_fits_a_known_shape_and_its_model_says_what_it_is() -> None:
    rng = np.random.default_rng(5)
    gaussian = torch.from_numpy(rng.normal(size=(1, 40_000)))
    laplacian = torch.from_numpy(rng.laplace(size=(1, 40_000)))
    assert naturalness._fit(gaussian)[0].item() == pytest.approx(2, abs=0.1)
    assert naturalness._fit(laplacian)[0].item() == pytest.approx(1, abs=0.05)
    model = naturalness.shipped_model()
    assert model.mean.shape == (36,) and model.covariance.shape == (36, 36) and "train" in model.source
    torch.testing.assert_close(model.covariance, model.covariance.T)


def niqe_oracle(image: NDArray[np.float64]) -> list[float]:
    """The 18 features of the finer scale of one patch: NumPy alone, the shapes by search."""
    blurred = [ndimage.gaussian_filter(part, 7 / 6, radius=3, mode="nearest") for part in (image, image**2)]
    normal = (image - blurred[0]) / (np.sqrt(np.maximum(blurred[1] - blurred[0] ** 2, 0)) + 1)
    shapes = np.arange(0.2, 10, 0.001)
    ratios = np.array([math.gamma(2 / s) ** 2 / (math.gamma(1 / s) * math.gamma(3 / s)) for s in shapes])
    features: list[float] = []
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1)):  # what lies left, above, and on both diagonals
        values = normal if (down, across) == (0, 0) else normal * np.roll(normal, (down, across), axis=(0, 1))
        left, right = (math.sqrt(np.mean(half**2)) for half in (values[values < 0], values[values > 0]))
        ratio = left / right
        wanted = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
        wanted *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
        shape = float(shapes[np.abs(ratios - wanted).argmin()])
        left, right = (side * math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape)) for side in (left, right))
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        features += [shape, (left + right) / 2] if values is normal else [shape, mean, left, right]
    return features


def test_niqe_reads_the_features_of_a_patch_and_its_four_neighbours() -> None:
    leaning = np.tile(texture(6, (96, 1), 4.0).astype(float), (1, 96))
    leaning = np.stack([np.roll(column, place) for place, column in enumerate(leaning.T)], axis=1)
    image = 0.6 * leaning + 0.4 * texture(7, (96, 96))  # its two diagonals differ
    found, _ = naturalness.patch_features(torch.from_numpy(image)[None, None])
    expected = niqe_oracle(image)
    assert abs(expected[11] - expected[15]) > 0.05
    assert found[0, :18].tolist() == pytest.approx(expected, rel=0.01, abs=0.003)
