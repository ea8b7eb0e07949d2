"""The fusion loss against independent loop versions in numpy and scikit-image, and its linearity in the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from fusion.colour import chroma, luma
from fusion.losses import TERMS, fusion_loss, fusion_terms, sobel
from fusion.ssim import ssim
from pipeline.errors import InputError

LOW_LIGHT = (48.0, 20.0, 48.0, 2.0, 12.0)
HIGH_NOISE = (32.0, 80.0, 72.0, 2.0, 12.0)


def images(number: int = 3, height: int = 24, width: int = 31, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    visible = torch.rand(number, 3, height, width, generator=generator, dtype=torch.float64)
    infrared = torch.rand(number, 1, height, width, generator=generator, dtype=torch.float64)
    fused = torch.rand(number, 3, height, width, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    return visible, infrared, fused


def grey(image: np.ndarray) -> np.ndarray:
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2] if image.shape[0] == 3 else image[0]


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(np.mean([structural_similarity(a, b, **options) for a, b in zip(first, second, strict=True)]))


def oracle(visible: np.ndarray, infrared: np.ndarray, fused: np.ndarray) -> dict[str, float]:
    """One sample, channel by channel and pixel by pixel where that is the clearest form of the definition."""
    target = visible.copy()
    for y in range(visible.shape[1]):
        for x in range(visible.shape[2]):
            if infrared[0, y, x] > visible[:, y, x].mean():
                target[:, y, x] = infrared[0, y, x]
    a, b, f = grey(visible), grey(infrared), grey(fused)
    gradient = 0.0
    for axis in (0, 1):
        responses = [np.abs(ndimage.sobel(plane, axis=axis, mode="nearest")) for plane in (a, b, f)]
        gradient += np.abs(responses[2] - np.maximum(responses[0], responses[1])).mean()
    colour = 0.0
    for channel, scale in ((2, 1.772), (0, 1.402)):
        colour += np.abs((visible[channel] - a) / scale - (fused[channel] - f) / scale).mean()
    return {
        "intensity": np.abs(fused - target).mean(),
        "consistency": (np.abs(a - f).mean() + np.abs(b - f).mean()) / 2,
        "gradient": gradient,
        "ssim": (1 - similarity(visible, fused)) + (1 - similarity(infrared, f[None])),
        "colour": colour,
    }


def test_every_term_equals_the_loop_version() -> None:
    visible, infrared, fused = images()
    terms = fusion_terms(visible, infrared, fused)
    for index in range(len(visible)):
        expected = oracle(visible[index].numpy(), infrared[index].numpy(), fused[index].numpy())
        for name in TERMS:
            assert terms[name][index].item() == pytest.approx(expected[name], abs=2e-6), (name, index)


def test_each_sample_is_weighted_by_its_own_row_only() -> None:
    visible, infrared, fused = images()
    weights = torch.tensor([LOW_LIGHT, HIGH_NOISE, (0, 0, 0, 0, 0)], dtype=torch.float64)
    together = fusion_loss(visible, infrared, fused, weights)
    for index in range(3):
        alone = fusion_loss(
            *(image[index : index + 1] for image in (visible, infrared, fused)), weights[index : index + 1]
        )
        assert together.total[index].item() == pytest.approx(alone.total.item(), rel=1e-12)
    assert together.total[2].item() == 0
    assert torch.allclose(sum(together.terms.values()), together.total)


def test_mean_of_the_losses_under_each_event_is_the_loss_under_the_mean_weights() -> None:
    visible, infrared, fused = images(number=1)
    rows = [torch.tensor([row], dtype=torch.float64) for row in (LOW_LIGHT, HIGH_NOISE)]
    separate = torch.stack([fusion_loss(visible, infrared, fused, row).total for row in rows]).mean()
    merged = fusion_loss(visible, infrared, fused, torch.stack(rows).mean(dim=0)).total
    assert separate.item() == pytest.approx(merged.item(), rel=1e-12)


def test_perfect_fusion_of_equal_grey_sources_costs_nothing() -> None:
    plane = images(number=1)[1]
    terms = fusion_terms(plane.repeat(1, 3, 1, 1), plane, plane.repeat(1, 3, 1, 1))
    for name, value in terms.items():
        assert value.item() == pytest.approx(0, abs=1e-6), name


def test_gradients_are_those_of_finite_differences() -> None:
    visible, infrared, fused = images(number=1, height=12, width=13)
    weights = torch.tensor([LOW_LIGHT], dtype=torch.float64)
    fused.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda image: fusion_loss(visible, infrared, image, weights).total, (fused,), eps=1e-7, atol=1e-4
    )


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    image = images()[0]
    assert torch.allclose(ssim(image, image), torch.ones(3, dtype=torch.float64))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    little, much = ssim(image, image + 0.05 * noise), ssim(image, image + 0.3 * noise)
    assert (little > much).all() and (little < 1).all()


def test_sobel_of_a_ramp_is_eight_times_its_slope() -> None:
    ramp = (torch.arange(9.0) * 0.1).expand(1, 1, 7, 9)
    across, down = sobel(ramp)[0]
    assert torch.allclose(across[:, 1:-1], torch.full((7, 7), 0.8)) and torch.allclose(down, torch.zeros(7, 9))
    assert torch.allclose(across[:, 0], torch.full((7,), 0.4))  # the replicated border halves the step


def test_chroma_of_grey_is_half_and_of_pure_blue_is_extreme() -> None:
    assert torch.allclose(chroma(torch.full((1, 3, 2, 2), 0.7)), torch.full((1, 2, 2, 2), 0.5))
    blue = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    assert chroma(blue)[0, 0].item() == pytest.approx(1.0, abs=1e-6)
    assert luma(blue).item() == pytest.approx(0.114, abs=1e-6)


def test_wrong_shapes_are_named() -> None:
    visible, infrared, fused = images()
    with pytest.raises(InputError, match=r"infrared .*\(3, 3, 24, 31\), expected \(3, 1, 24, 31\)"):
        fusion_loss(visible, visible, fused, torch.ones(3, 5))
    with pytest.raises(InputError, match=r"loss weights .*\(3, 4\), expected \(3, 5\)"):
        fusion_loss(visible, infrared, fused, torch.ones(3, 4))
