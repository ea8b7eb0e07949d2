"""The classical methods: known answers, exact reconstruction, colour kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.baselines import BASELINES, box_mean, guided_filter, luma, recolour
from fusion.pyramids import depth, laplacian_pyramid, laplacian_rebuild, wavelet_rebuild, wavelet_split

SIZES = [(8, 8), (9, 31), (64, 64), (161, 97), (43, 200)]
LEARNT_NOTHING = sorted(BASELINES)


def picture(channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, channels, *size, generator=generator, dtype=torch.float64)


def chroma(image: Tensor) -> Tensor:
    """Cb and Cr up to scale: blue and red less brightness."""
    return image[:, [2, 0]] - luma(image)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", LEARNT_NOTHING)
def test_two_equal_images_fuse_to_themselves(name: str, size: tuple[int, int]) -> None:
    grey = picture(1, size)
    assert torch.allclose(BASELINES[name].fuse(grey, grey), grey, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in LEARNT_NOTHING if name not in ("visible", "infrared")])
def test_brightness_is_the_rules_answer_and_colour_the_visibles(name: str) -> None:
    visible, infrared = 0.3 + 0.2 * picture(3, (40, 50)), 0.3 + 0.2 * picture(1, (40, 50), seed=1)
    fused = BASELINES[name].fuse(visible, infrared)
    assert fused.shape == visible.shape
    assert torch.allclose(luma(fused), BASELINES[name].rule(luma(visible), infrared), atol=1e-9)
    assert torch.allclose(chroma(fused), chroma(visible), atol=1e-9)


def test_brightness_is_exact_even_where_the_colour_does_not_fit() -> None:
    visible = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    bright = torch.full((1, 1, 1, 1), 0.95, dtype=torch.float64)
    fused = recolour(visible, bright)
    assert torch.allclose(luma(fused), bright)
    assert fused.max() <= 1
    assert fused[0, 0] > fused[0, 1]  # paler, still red


def test_the_trivial_methods_by_hand() -> None:
    visible = torch.tensor([[0.2, 0.8]]).view(1, 1, 1, 2)
    infrared = torch.tensor([[0.6, 0.4]]).view(1, 1, 1, 2)
    answers = {name: BASELINES[name].fuse(visible, infrared).flatten().tolist() for name in ("mean", "maximum")}
    assert answers["mean"] == pytest.approx([0.4, 0.6])
    assert answers["maximum"] == pytest.approx([0.6, 0.8])


def test_single_images_come_back_untouched() -> None:
    visible, infrared = picture(3, (10, 12)), picture(1, (10, 12), seed=1)
    assert torch.equal(BASELINES["visible"].fuse(visible, infrared), visible)
    assert torch.equal(BASELINES["infrared"].fuse(visible, infrared), infrared.repeat(1, 3, 1, 1))


@pytest.mark.parametrize("size", SIZES)
def test_both_transforms_put_the_image_together_exactly(size: tuple[int, int]) -> None:
    image = picture(1, size)
    assert torch.allclose(laplacian_rebuild(*laplacian_pyramid(image)), image, atol=1e-12)
    assert torch.allclose(wavelet_rebuild(*wavelet_split(image), size=size), image, atol=1e-12)


def test_flat_images_have_no_detail_and_ramps_none_inside() -> None:
    flat = torch.full((1, 1, 37, 53), 0.4, dtype=torch.float64)
    details, base = laplacian_pyramid(flat)
    assert max(float(detail.abs().max()) for detail in details) < 1e-12
    assert torch.allclose(base, torch.full_like(base, 0.4))
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).expand(1, 1, 64, 64)
    bands, _ = wavelet_split(ramp, levels=1)
    assert float(bands[0][..., :-1].abs().max()) < 1e-12  # 5/3 has two vanishing moments


def test_wavelet_bands_are_named_right() -> None:
    upright = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    upright[..., 1::4] = 1  # changes along the width only
    bands, _ = wavelet_split(upright, levels=1)
    across, down, diagonal = bands[0].abs().sum(dim=(0, 2, 3))
    assert across > 1
    assert down == 0
    assert diagonal == 0


@pytest.mark.parametrize("name", ["laplacian", "wavelet", "guided"])
def test_detail_of_either_source_survives(name: str) -> None:
    """Left half textured in one image, right half in the other: the fused image has both."""
    texture = 0.5 + 0.2 * (picture(1, (64, 64)) - 0.5)
    flat = torch.full_like(texture, 0.5)
    left = torch.arange(64) < 32
    first, second = torch.where(left, texture, flat), torch.where(left, flat, texture)
    fused = BASELINES[name].fuse(first, second)
    inside = torch.ones(64, dtype=torch.bool)
    inside[22:42] = False
    error = (fused - texture)[..., inside].abs().mean()
    assert error < 0.25 * (texture - 0.5)[..., inside].abs().mean()


def test_box_mean_and_guided_filter_against_plain_loops() -> None:
    image, guide = picture(1, (12, 15))[:1], picture(1, (12, 15), seed=3)[:1]

    def slow_mean(values: np.ndarray, radius: int) -> np.ndarray:
        height, width = values.shape
        answer = np.empty_like(values)
        for y in range(height):
            for x in range(width):
                window = values[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
                answer[y, x] = window.mean()
        return answer

    p, i = image[0, 0].numpy(), guide[0, 0].numpy()
    assert np.allclose(box_mean(image, 2)[0, 0].numpy(), slow_mean(p, 2))
    slope = (slow_mean(i * p, 2) - slow_mean(i, 2) * slow_mean(p, 2)) / (
        slow_mean(i * i, 2) - slow_mean(i, 2) ** 2 + 0.1
    )
    offset = slow_mean(p, 2) - slope * slow_mean(i, 2)
    expected = slow_mean(slope, 2) * i + slow_mean(offset, 2)
    assert np.allclose(guided_filter(guide, image, radius=2, epsilon=0.1)[0, 0].numpy(), expected)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        BASELINES["mean"].fuse(picture(3, (10, 10)), picture(1, (10, 11)))


def test_depth_stops_before_sides_fall_under_eight() -> None:
    assert [depth((side, 500)) for side in (7, 8, 15, 16, 640)] == [0, 0, 1, 1, 5]
