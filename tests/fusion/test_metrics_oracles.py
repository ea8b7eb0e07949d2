"""Metrics against independent computations: scikit-image, scipy and plain loops in float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, signal, stats
from skimage.metrics import structural_similarity

from fusion.metrics import gradients, information, nabf, qabf, similarity, statistics, vif
from fusion.metrics.grey import opencv_grey, rounded_grey, truncated_grey
from fusion.metrics.windows import gaussian_window, local_mean

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def images() -> tuple[Array, Array, Array]:
    """Two smooth textures and a noisy mixture, odd-sized, whole numbers."""
    rng = np.random.default_rng(7)
    textures = [ndimage.gaussian_filter(rng.normal(size=(61, 83)), sigma) for sigma in (1.5, 3.0)]
    a, b = (np.round(255 * (t - t.min()) / np.ptp(t)) for t in textures)
    f = np.clip(np.round(0.6 * a + 0.4 * b + rng.normal(0, 4, a.shape)), 0, 255)
    return a, b, f


def tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(array.astype(np.float32)) for array in arrays]


def entropy_of(*arrays: Array) -> float:
    codes = np.zeros(arrays[0].size)
    for array in arrays:
        codes = codes * 256 + array.ravel()
    return float(stats.entropy(np.unique(codes, return_counts=True)[1], base=2))


def test_entropy_and_information(images: tuple[Array, Array, Array]) -> None:
    a, b, f = images
    shared = [entropy_of(x) + entropy_of(f) - entropy_of(x, f) for x in (a, b)]
    ta, tb, tf = tensors(a, b, f)
    assert information.entropy(tf).item() == pytest.approx(entropy_of(f))
    assert information.mutual_information(ta, tb, tf).item() == pytest.approx(sum(shared))
    normal = sum(2 * s / (entropy_of(x) + entropy_of(f)) for s, x in zip(shared, (a, b), strict=True))
    assert information.normalized_mutual_information(ta, tb, tf).item() == pytest.approx(normal)


def test_sd_cc_scd_mse_and_psnr_agree_with_numpy_and_scipy(images: tuple[Array, Array, Array]) -> None:
    a, b, f = images
    ta, tb, tf = tensors(a, b, f)

    def r(x: Array, y: Array) -> float:
        return float(stats.pearsonr(x.ravel(), y.ravel()).statistic)

    assert statistics.standard_deviation(tf).item() == pytest.approx(f.std(), rel=1e-6)
    assert statistics.correlation_coefficient(ta, tb, tf).item() == pytest.approx((r(a, f) + r(b, f)) / 2, rel=1e-5)
    scd = r(f - b, a) + r(f - a, b)
    assert statistics.sum_of_correlations_of_differences(ta, tb, tf).item() == pytest.approx(scd, rel=1e-5)
    mse = (((a - f) ** 2).mean() + ((b - f) ** 2).mean()) / 2 / 255**2
    assert statistics.mean_squared_error(ta, tb, tf).item() == pytest.approx(mse, rel=1e-6)
    assert statistics.peak_signal_to_noise_ratio(ta, tb, tf).item() == pytest.approx(-10 * math.log10(mse), rel=1e-6)


def test_sf_ag_and_sobel_agree_with_numpy_and_scipy(images: tuple[Array, Array, Array]) -> None:
    f = images[2]
    (tf,) = tensors(f)
    rows, columns = np.diff(f, axis=0), np.diff(f, axis=1)
    sf = math.sqrt((rows**2).mean() + (columns**2).mean())
    assert gradients.spatial_frequency(tf).item() == pytest.approx(sf, rel=1e-6)
    dy, dx = np.gradient(f)
    assert gradients.average_gradient(tf).item() == pytest.approx(np.sqrt((dx**2 + dy**2) / 2).mean(), rel=1e-6)
    along, down = gradients.sobel(tf, "replicate")
    np.testing.assert_allclose(along[0, 0].numpy(), ndimage.sobel(f, axis=1, mode="nearest"), rtol=1e-6)
    np.testing.assert_allclose(down[0, 0].numpy(), ndimage.sobel(f, axis=0, mode="nearest"), rtol=1e-6)


def test_ssim_is_that_of_scikit_image(images: tuple[Array, Array, Array]) -> None:
    a, b, f = images
    ta, tb, tf = tensors(a, b, f)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    valid = [structural_similarity(x, f, full=True, **gaussian)[1][5:-5, 5:-5].mean() for x in (a, b)]
    assert similarity.ssim(ta, tb, tf).item() == pytest.approx(sum(valid), rel=1e-5)
    uniform = [structural_similarity(x, f, data_range=255) for x in (a, b)]
    assert similarity.uniform_ssim(ta, tb, tf).item() == pytest.approx(sum(uniform), rel=1e-5)


def test_vif_against_full_convolutions(images: tuple[Array, Array, Array]) -> None:
    a, b, f = images

    def one(x: Array, y: Array) -> float:
        kept = there = 0.0
        for scale, length in enumerate((17, 9, 5, 3)):
            line = np.exp(-((np.arange(length) - length // 2) ** 2) / (2 * (length / 5) ** 2))
            window = np.outer(line, line) / line.sum() ** 2
            if scale:
                x, y = (signal.convolve2d(z, window, "valid")[::2, ::2] for z in (x, y))
            mx, my, xx, yy, xy = (signal.convolve2d(z, window, "valid") for z in (x, y, x * x, y * y, x * y))
            vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
            gain = np.maximum(cov / (vx + 1e-10), 0)
            left = np.maximum(np.where(gain > 0, vy - gain * cov, vy), 1e-10)
            kept += np.log(1 + gain**2 * vx / (left + 2)).sum()
            there += np.log(1 + vx / 2).sum()
        return kept / there

    assert vif.vif(*tensors(a, b, f)).item() == pytest.approx(one(a, f) + one(b, f), rel=2e-5)
    assert vif.mean_vif(*tensors(a, b, f)).item() == pytest.approx((one(a, f) + one(b, f)) / 2, rel=2e-5)


def test_qabf_and_nabf_against_loops(images: tuple[Array, Array, Array]) -> None:
    a, b, f = (image[:20, :24] for image in images)

    def field(image: Array, mode: str) -> tuple[Array, Array]:
        return ndimage.sobel(image, axis=1, mode=mode), ndimage.sobel(image, axis=0, mode=mode)

    kept = there = 0.0
    fx, fy = field(f, "constant")
    for x, y in (field(a, "constant"), field(b, "constant")):
        for gx, gy, hx, hy in zip(x.ravel(), y.ravel(), fx.ravel(), fy.ravel(), strict=True):
            g, h = math.hypot(gx, gy), math.hypot(hx, hy)
            ratio = h if abs(g - h) < 1e-9 else min(g, h) / max(g, h)
            angles = [math.pi / 2 if u == 0 else math.atan(-v / u) for u, v in ((gx, gy), (hx, hy))]
            agree = 1 - abs(angles[0] - angles[1]) / (math.pi / 2)
            q = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + math.exp(-22 * (agree - 0.8)))
            kept, there = kept + q * g, there + g
    assert qabf.qabf(*tensors(a, b, f)).item() == pytest.approx(kept / there, rel=1e-5)

    lost = weight = 0.0
    fields = [np.stack(field(image, "mirror")) / 8 for image in (a, b, f)]
    for p in np.ndindex(a.shape):
        vectors = [field_[(slice(None), *p)] for field_ in fields]
        sizes = [math.hypot(*v) for v in vectors]
        turns = [
            0.0 if not v.any() else math.copysign(math.pi / 2, v[1]) if v[0] == 0 else math.atan(v[1] / v[0])
            for v in vectors
        ]
        for s in (0, 1):
            w = sizes[s] ** 1.5 if sizes[s] >= 2 else 0.0
            weight += w
            if sizes[2] > sizes[0] and sizes[2] > sizes[1]:
                ratio = sizes[s] / sizes[2]
                agree = abs(abs(turns[s] - turns[2]) - math.pi / 2) * 2 / math.pi
                q = 0.9999 / (1 + math.exp(-19 * (ratio - 0.5))) * 0.9995 / (1 + math.exp(-22 * (agree - 0.5)))
                lost += w * (1 - math.sqrt(q))
    assert nabf.nabf(*tensors(a, b, f)).item() == pytest.approx(lost / weight, rel=1e-4)


def test_each_grey_is_its_toolkits_own() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    np.testing.assert_array_equal(rounded_grey(batch)[0, 0].numpy(), np.asarray(Image.fromarray(pixels).convert("L")))
    opencv = (pixels.astype(np.int64) @ np.array([9798, 19235, 3735]) + 2**14) >> 15  # its integers, exactly
    np.testing.assert_array_equal(opencv_grey(batch)[0, 0].numpy(), opencv)
    apart = (opencv_grey(batch) - rounded_grey(batch)).abs()
    assert apart.max() == 1 and 0 < apart.mean() < 2e-3
    ramp = torch.arange(256).view(1, 1, 16, 16)
    assert torch.equal(rounded_grey(ramp), ramp.float())
    assert torch.equal(truncated_grey(ramp.expand(-1, 3, -1, -1)), (ramp - 1).clamp_min(0).float())


def test_local_mean_is_a_convolution() -> None:
    image = np.random.default_rng(2).normal(size=(2, 3, 20, 23)).astype(np.float32)
    line = np.array(gaussian_window(5, 1.0))
    window = np.outer(line, line)
    for around, mode in ((False, "valid"), (True, "same")):
        found = local_mean(torch.from_numpy(image), tuple(line), zeros_around=around)
        for n, c in np.ndindex(2, 3):
            expected = signal.convolve2d(image[n, c], window, mode)
            np.testing.assert_allclose(found[n, c].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["vif", "qabf", "ssim"])
def test_float32_keeps_four_digits_on_real_medical_images(name: str, data_root: Path) -> None:
    """Half of a medical image is flat and black: the hard case for variances in float32."""
    folder = data_root / "harvard" / "SPECT-MRI" / "test"
    a, b = (
        np.asarray(Image.open(folder / side / "29011.png").convert("L")).astype(np.float64) for side in ("SPECT", "MRI")
    )
    f = np.clip((a + b + 1) // 2 + np.indices(a.shape).sum(0) % 5 - 2, 0, 255)
    function = {"vif": vif.vif, "qabf": qabf.qabf, "ssim": similarity.ssim}[name]
    exact = function(*(torch.from_numpy(image) for image in (a, b, f))).item()
    assert function(*tensors(a, b, f)).item() == pytest.approx(exact, rel=1e-4)
