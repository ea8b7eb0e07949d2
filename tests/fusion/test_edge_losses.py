"""The edge objective: each term against a slow oracle or a known answer, and what it must punish."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, sobel
from skimage.metrics import structural_similarity
from torch import Tensor

from fusion.edge_losses import (
    TERMS,
    checker_term,
    departure_term,
    faint_term,
    gradient_term,
    intensity_term,
    intrusion_term,
    qabf_term,
    roughness_term,
    spurious_term,
    ssim_term,
    vif,
    vif_term,
)
from fusion.score import score
from fusion.ssim import gaussian_blur


def scene(seed: int, size: int = 96) -> Tensor:
    """A smooth random scene, (1, 1, size, size) in 0..1."""
    noise = np.random.default_rng(seed).random((size, size))
    smooth = gaussian_filter(noise, 3) + 0.15 * gaussian_filter(noise, 1)
    return torch.from_numpy((smooth - smooth.min()) / np.ptp(smooth)).float()[None, None]


def as_bytes(plane: Tensor) -> np.ndarray:
    return (plane[0, 0].numpy() * 255).round().astype(np.uint8)


def quantised(plane: Tensor) -> Tensor:
    return (plane * 255).round() / 255


FIRST, SECOND = quantised(scene(1)), quantised(scene(2))
MIXED = quantised(0.6 * FIRST + 0.4 * SECOND)
BLEND = torch.full_like(FIRST, 0.5)


def qabf_oracle(first: np.ndarray, second: np.ndarray, fused: np.ndarray) -> float:
    """The published formula pixel by pixel, with angles of lines: half a turn apart is the same."""
    strengths, angles = [], []
    for plane in (first, second, fused):
        across, down = (sobel(plane * 255.0, axis, mode="nearest") for axis in (1, 0))
        strengths.append(np.hypot(across, down))
        angles.append(np.arctan2(down, across))
    kept = 0.0
    for source in (0, 1):
        ratio = np.minimum(strengths[source], strengths[2]) / np.maximum(strengths[source], strengths[2]).clip(1e-9)
        turn = np.abs(angles[source] - angles[2]) % np.pi
        agreement = 1 - np.minimum(turn, np.pi - turn) / (np.pi / 2)
        preserved = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
        kept += float((preserved * strengths[source]).sum())
    return kept / float((strengths[0] + strengths[1]).sum())


def test_qabf_agrees_with_the_published_formula() -> None:
    expected = qabf_oracle(*(plane[0, 0].double().numpy() for plane in (FIRST, SECOND, MIXED)))
    assert 1 - float(qabf_term(FIRST, SECOND, MIXED, BLEND)) == pytest.approx(expected, abs=1e-3)


def test_vif_agrees_with_the_metric() -> None:
    metric = score(as_bytes(FIRST), as_bytes(SECOND), as_bytes(MIXED), names=["VIF"])["VIF"]
    assert float(vif(FIRST, MIXED) + vif(SECOND, MIXED)) == pytest.approx(metric, rel=0.01)


def test_ssim_agrees_with_the_metric() -> None:
    metric = score(as_bytes(FIRST), as_bytes(SECOND), as_bytes(MIXED), names=["SSIM"])["SSIM"]
    assert 2 - float(ssim_term(FIRST, SECOND, MIXED, BLEND)) == pytest.approx(metric, abs=0.02)


def test_faint_is_ssim_with_smaller_constants() -> None:
    expected = 0.0
    for source in (FIRST, SECOND):
        first, second = (plane[0, 0].double().numpy() * 255 for plane in (source, MIXED))
        expected += structural_similarity(
            first, second, data_range=8, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    assert 2 - float(faint_term(FIRST, SECOND, MIXED, BLEND)) == pytest.approx(expected, abs=0.02)


def test_one_grey_level_on_an_empty_ground_is_seen_by_faint_and_not_by_ssim() -> None:
    empty = torch.zeros_like(FIRST)
    lifted = empty + 1 / 255
    assert float(ssim_term(empty, empty, lifted, BLEND)) < 0.4
    assert float(faint_term(empty, empty, lifted, BLEND)) > 1.5
    assert float(faint_term(FIRST, FIRST, FIRST, BLEND)) == pytest.approx(0, abs=1e-5)


def test_blur_agrees_with_scipy_inside() -> None:
    blurred = gaussian_blur(FIRST)
    expected = gaussian_filter(FIRST[0, 0].double().numpy(), 1.5, truncate=5 / 1.5)[5:-5, 5:-5]
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, atol=1e-5)
    assert gaussian_blur(FIRST[..., :80], 17, 3.4).shape[-2:] == (80, 64)


def test_the_maximum_has_no_intensity_loss_and_a_copy_has() -> None:
    assert float(intensity_term(FIRST, SECOND, torch.maximum(FIRST, SECOND), BLEND)) == 0
    assert float(intensity_term(FIRST, SECOND, FIRST, BLEND)) > 0.01


def test_gradient_keeps_the_sign() -> None:
    flat = torch.full_like(FIRST, 0.5)
    assert float(gradient_term(FIRST, flat, FIRST, BLEND)) == pytest.approx(0, abs=1e-7)
    inside = FIRST[0, 0].numpy()
    strongest = np.abs(np.stack([sobel(inside, axis, mode="nearest") for axis in (0, 1)])).mean() / 8
    assert float(gradient_term(FIRST, flat, 1 - FIRST, BLEND)) == pytest.approx(2 * strongest, rel=1e-4)


def test_an_island_costs_departure_and_spurious_contours() -> None:
    bright, dark = torch.full((1, 1, 96, 96), 0.8), torch.full((1, 1, 96, 96), 0.2)
    island = bright.clone()
    island[..., 30:60, 30:60] = 0.2
    for term in (departure_term, spurious_term):
        assert float(term(bright, dark, bright, BLEND)) == pytest.approx(0, abs=1e-5)
        assert float(term(bright, dark, island, BLEND)) > 0.005


def test_a_departure_is_paid_with_its_square_eight_times() -> None:
    """To the brighter source: 0.1 off costs 0.1 + 8 x 0.01, and being as far above it the same."""
    bright, dark = torch.full_like(FIRST, 0.4), torch.full_like(FIRST, 0.2)
    for fused in (0.3, 0.5):
        assert float(departure_term(dark, bright, torch.full_like(FIRST, fused), BLEND)) == pytest.approx(
            0.18, abs=1e-5
        )


def test_a_contour_is_paid_for_at_five_scales_beyond_one_grey_level() -> None:
    """A step has half its height in Sobel / 8, in two columns at every scale: 2 of 96, of 48, of 24, of 12, of 6."""
    flat = torch.full_like(FIRST, 0.4)
    for height, strength in ((0.2, 0.1), (0.02, 0.01), (1.9 / 255, 0.95 / 255)):
        step = flat.clone()
        step[..., 48:] += height
        columns = sum(2 / width for width in (96, 48, 24, 12, 6))
        expected = columns * max(0.0, strength - 1 / 255)
        assert float(spurious_term(flat, flat, step, BLEND)) == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_copying_one_source_gains_nothing_from_the_geometric_mean() -> None:
    copied, mixed = (float(vif_term(FIRST, SECOND, fused, BLEND)) for fused in (FIRST, MIXED))
    assert mixed < copied
    summed = [float(vif(FIRST, f) + vif(SECOND, f)) for f in (FIRST, MIXED)]
    assert summed[0] > summed[1]  # the plain sum rewards the copy


def test_roughness_is_silent_where_the_sources_agree() -> None:
    rough = torch.rand(FIRST.shape, generator=torch.Generator().manual_seed(0))
    assert float(roughness_term(FIRST, FIRST, FIRST, rough)) == 0
    assert float(roughness_term(FIRST, SECOND, FIRST, BLEND)) == 0
    assert float(roughness_term(FIRST, SECOND, FIRST, rough)) > 0.01


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_per_sample_and_has_finite_gradients_on_flat_images(name: str) -> None:
    flat = torch.zeros_like(FIRST)
    first, second = torch.cat([FIRST, flat]), torch.cat([SECOND, flat])
    fused = torch.cat([MIXED, flat]).requires_grad_()
    blend = torch.cat([BLEND, BLEND]).requires_grad_()
    value = TERMS[name](first, second, fused, blend)
    assert value.shape == (2,)
    value.sum().backward()
    for gradient in (fused.grad, blend.grad):
        assert gradient is None or bool(gradient.isfinite().all())
    alone = TERMS[name](FIRST, SECOND, MIXED, BLEND)
    torch.testing.assert_close(value[:1], alone, atol=1e-5, rtol=1e-4)


def test_squares_are_seen_by_the_checker_term_alone() -> None:
    """A checkerboard of ±0.1: every 2 x 2 difference is 0.4, every Sobel response 0; in a source it is no fault."""
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    squares = 0.1 * (1.0 - 2.0 * ((rows + columns) % 2))
    flat, board = torch.full_like(FIRST, 0.5), 0.5 + squares[None, None]
    assert float(checker_term(flat, flat, board, BLEND)) == pytest.approx(0.4, abs=1e-6)
    assert float(spurious_term(flat, flat, board, BLEND)) < 0.01
    assert float(checker_term(flat, board, board, BLEND)) == pytest.approx(0, abs=1e-6)
    assert (
        float(checker_term(FIRST, SECOND, torch.maximum(FIRST, SECOND), BLEND)) < 0.004
    )  # its switches cost a hundredth


def test_contours_of_a_far_darker_source_intrude() -> None:
    """A cloud that only a dark infrared sky has: in a white sky no other term forbids its outline."""
    sky = torch.full_like(FIRST, 0.9)
    cloud = torch.zeros_like(FIRST)
    cloud[..., 32:64, 32:64] = 0.1
    dark, outlined = 0.05 + cloud, sky - cloud
    assert float(intrusion_term(sky, dark, sky, BLEND)) == 0
    assert float(intrusion_term(sky, dark, outlined, BLEND)) > 0.005
    assert float(spurious_term(sky, dark, outlined, BLEND)) < 1e-6
    assert float(qabf_term(sky, dark, outlined, BLEND)) < float(qabf_term(sky, dark, sky, BLEND))
    assert float(intrusion_term(dark, sky, outlined, BLEND)) == float(intrusion_term(sky, dark, outlined, BLEND))
    assert float(intrusion_term(outlined, dark, outlined, BLEND)) == 0, "the brighter source has the contour as well"
    assert float(intrusion_term(sky - 0.7, dark, sky - 0.7 - cloud, BLEND)) == 0, "0.15 darker is not far darker"
