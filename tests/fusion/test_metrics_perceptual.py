"""Qcb, Qcv, Qy and FMI against plain numpy computations written from the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from fusion.metrics import fmi, perceptual

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def images() -> list[Array]:
    rng = np.random.default_rng(11)
    a, b = (ndimage.gaussian_filter(rng.normal(size=(53, 70)), sigma) for sigma in (1.5, 3.0))
    a, b = (np.round(10 + 230 * (t - t.min()) / np.ptp(t)) for t in (a, b))
    return [a, b, np.round(np.clip(0.5 * (a + b) + rng.normal(0, 3, a.shape), 0, 255))]


def tensors(images: list[Array]) -> list[torch.Tensor]:
    return [torch.from_numpy(image.astype(np.float32)) for image in images]


def stretched(image: Array) -> Array:
    return np.round((image - image.min()) / np.ptp(image) * 255)


def filtered(image: Array, part: float, sensitivity: object) -> Array:
    height, width = image.shape
    v, u = (np.fft.fftfreq(n) * 2 * n / part for n in (height, width))
    r = np.hypot(v[:, None], u[None])
    return np.real(np.fft.ifft2(np.fft.fft2(image) * sensitivity(r)))  # type: ignore[operator]


def test_qcb_agrees_with_a_plain_version_in_scipy(images: list[Array]) -> None:
    y, x = np.mgrid[-15:16, -15:16]
    near, far = (np.exp(-(x**2 + y**2) / (2 * s * s)) / (2 * math.pi * s * s) for s in (2, 4))

    def masked(image: Array) -> Array:
        seen = filtered(
            stretched(image), 30, lambda r: np.exp(-((r / 15.387) ** 2)) - 0.7622 * np.exp(-((r / 1.3456) ** 2))
        )
        c = np.abs(signal.convolve2d(seen, near, "same") / signal.convolve2d(seen, far, "same") - 1)
        return c**3 / (c**2 + 1e-4)

    a, b, f = map(masked, images)
    weight = a**2 / (a**2 + b**2)
    ratios = [np.minimum(s, f) / np.maximum(s, f) for s in (a, b)]
    expected = (weight * ratios[0] + (1 - weight) * ratios[1]).mean()
    assert perceptual.qcb(*tensors(images)).item() == pytest.approx(expected, rel=1e-4)


def test_qcv_agrees_with_a_plain_version_in_scipy(images: list[Array]) -> None:
    a, b, f = map(stretched, images)
    top = bottom = 0.0
    for source in (a, b):
        edge = np.hypot(*(ndimage.sobel(source, axis=n, mode="constant") for n in (0, 1))) ** 5
        seen = filtered(source - f, 8, lambda r: 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))) ** 2
        for i in range(0, 53, 16):
            for j in range(0, 70, 16):
                block = np.s_[i : i + 16, j : j + 16]
                top += edge[block].sum() * seen[block].sum() / 256
                bottom += edge[block].sum()
    assert perceptual.qcv(*tensors(images)).item() == pytest.approx(top / bottom, rel=1e-4)


def test_qy_agrees_with_a_plain_version_in_scipy(images: list[Array]) -> None:
    a, b, f = images
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def mean(image: Array) -> Array:
        return signal.convolve2d(image, window, "valid")

    def variance(x: Array, y: Array) -> Array:
        return mean(x * y) - mean(x) * mean(y)

    def similar(x: Array, y: Array) -> Array:
        level = 2 * mean(x) * mean(y) / (mean(x) ** 2 + mean(y) ** 2)
        return level * 2 * variance(x, y) / (variance(x, x) + variance(y, y))

    share = variance(a, a) / (variance(a, a) + variance(b, b))
    alike = share * similar(a, f) + (1 - share) * similar(b, f)
    expected = np.where(similar(a, b) >= 0.75, alike, np.maximum(similar(a, f), similar(b, f))).mean()
    assert perceptual.qy(*tensors(images)).item() == pytest.approx(expected, rel=1e-4)


def shared(x: Array, y: Array) -> float:
    """One window of FMI, place by place."""
    if (x == y).all():
        return 1.0
    p, q = ((w - w.min()) / (w - w.min()).sum() if np.ptp(w) else np.full(9, 1 / 9) for w in (x, y))
    cp, cq = np.concatenate([[0], p.cumsum()]), np.concatenate([[0], q.cumsum()])
    c = np.corrcoef(p, q)[0, 1] if np.ptp(p) and np.ptp(q) else 0.0

    def bound(i: int, j: int) -> float:
        return float(min(cp[i], cq[j]) if c >= 0 else max(cp[i] + cq[j] - 1, 0))

    places = np.arange(1, 10)
    spread = math.sqrt(np.prod([(w * places**2).sum() - (w * places).sum() ** 2 for w in (p, q)]))
    covariance = sum(bound(i, j) - cp[i] * cq[j] for i in places for j in places)
    share = c / (covariance / spread) if c and spread else 0.0
    joint = 0.0
    for i in places:
        for j in places:
            corner = bound(i, j) - bound(i - 1, j) - bound(i, j - 1) + bound(i - 1, j - 1)
            value = share * corner + (1 - share) * p[i - 1] * q[j - 1]
            joint -= value * math.log(abs(value)) if value else 0.0
    own = -sum(w[w > 0] @ np.log(w[w > 0]) for w in (p, q))
    return 2 * (own - joint) / own


@pytest.mark.parametrize("feature", ["pixel", "gradient", "dct"])
def test_fmi(images: list[Array], feature: str) -> None:
    cut = [image[:14, :17] for image in images]
    cut[2][:4, :5] = cut[0][:4, :5]
    cut[1][8:12, 8:12] = 77
    makers = {
        "pixel": lambda x: x,
        "gradient": lambda x: np.hypot(*np.gradient(x)),
        "dct": lambda x: fft.dctn(x, norm="ortho"),
    }
    a, b, f = (makers[feature](image) for image in cut)
    values = []
    for i in range(12):
        for j in range(15):
            wa, wb, wf = (image[i : i + 3, j : j + 3].ravel() for image in (a, b, f))
            values.append((shared(wa, wf) + shared(wb, wf)) / 2)
    function = {"pixel": fmi.fmi_pixel, "gradient": fmi.fmi_gradient, "dct": fmi.fmi_dct}[feature]
    assert function(*(torch.from_numpy(image) for image in cut)).item() == pytest.approx(np.mean(values), rel=1e-3)
