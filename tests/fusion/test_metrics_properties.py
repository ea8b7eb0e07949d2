"""What must hold of every metric, whatever the numbers: identical images, swapped sources, shifts, noise, edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000, rgb2lab

from fusion.metrics import CONVENTIONS, DEFAULT_NAMES, METRICS, colour, departures, qabf, similarity, vif
from fusion.metrics.grey import rounded_grey
from fusion.metrics.planes import Plane
from fusion.metrics.triples import Sources
from fusion.score import available_names, prepare, score, score_fused
from pipeline.errors import InputError, MissingPackage
from textures import Image, texture

NAMES = [name for name in METRICS if name != "BRISQUE"]
QUICK = [name for name in NAMES if not name.startswith("FMI")]  # a third of a second each


A, B = texture(1), texture(2, sigma=5)
MEAN = ((A.astype(int) + B + 1) // 2).astype(np.uint8)


def test_the_fused_image_equal_to_both_sources_is_perfect() -> None:
    found = score(A, A, A, names=NAMES)
    perfect = {"VIF": 2, "VIF-mean": 1, "SSIM": 2, "MS-SSIM": 2, "CC": 1, "NMI": 2, "MSE": 0, "Nabf": 0, "Spurious": 0}
    perfect |= {
        "Qcb": 1,
        "Qcv": 0,
        "Qy": 1,
        "DeltaE": 0,
        "DeltaE-lit": 0,
        "LFD": 0,
        "FMI-pixel": 1,
        "FMI-gradient": 1,
        "FMI-dct": 1,
    }
    for name, value in perfect.items():
        assert found[name] == pytest.approx(value, abs=2e-4), name
    assert found["MI"] == pytest.approx(2 * found["EN"])  # type: ignore[operator]
    assert found["Qabf"] == pytest.approx(0.9994 * 0.9879, abs=0.013)  # the sigmoids do not reach 1
    assert found["PSNR"] is None and found["SCD"] is None  # infinite; correlation with a constant difference


@pytest.mark.parametrize("fused", [A, B], ids=["F = A", "F = B"])
def test_one_source_untouched_scores_one_full_share(fused: Image) -> None:
    found, both = score(A, B, fused, names=QUICK), score(A, A, A, names=QUICK)
    for name in ("VIF", "SSIM", "MI", "MS-SSIM"):
        share = both[name] / 2 if name != "MI" else score(fused, fused, fused)["MI"] / 2  # type: ignore[operator]
        assert found[name] > share * 0.999, name  # type: ignore[operator]
    assert found["Nabf"] == 0 and found["Spurious"] == 0


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_order_of_grey_sources_does_not_matter(convention: str) -> None:
    names = [name for name in CONVENTIONS[convention].functions if name in QUICK and not name.startswith("DeltaE")]
    one, other = score(A, B, MEAN, convention, names), score(B, A, MEAN, convention, names)
    for name in names:
        if name != "NIQE":  # undefined on so small an image
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name


def test_a_brightness_shift_leaves_what_only_looks_at_differences() -> None:
    shifted = [(image + 10).astype(np.uint8) for image in (A, B, MEAN)]
    names = ["EN", "MI", "NMI", "SF", "SD", "AG", "CC", "SCD", "MSE", "PSNR", "VIF", "Nabf", "LFD", "Spurious", "Qcv"]
    before, after = score(A, B, MEAN, names=names), score(*shifted, names=names)
    for name in names:
        assert after[name] == pytest.approx(before[name], rel=2e-4, abs=1e-6), name


def test_more_noise_is_worse_where_quality_is_meant_and_better_where_it_is_not() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=MEAN.shape)
    steps = [
        score(A, B, np.clip(MEAN + s * noise, 0, 255).astype(np.uint8), names=[*QUICK, "FMI-pixel"])
        for s in (0, 4, 8, 16, 32)
    ]
    for name in ("VIF", "Qabf", "SSIM", "MS-SSIM", "CC", "PSNR", "Qy", "FMI-pixel"):
        values = [step[name] for step in steps]
        assert values == sorted(values, reverse=True), name  # type: ignore[type-var]
    for name in ("Nabf", "Spurious", "MSE", "NIQE", "SF", "AG"):  # the last two mistake noise for detail
        values = [step[name] for step in steps]
        if None not in values:
            assert values == sorted(values), name  # type: ignore[type-var]


def test_a_bright_object_at_another_place_moves_nothing_but_its_place() -> None:
    rolled = [np.roll(image, (16, 32), (0, 1)) for image in (A, B, MEAN)]
    for name in ("EN", "MI", "SD", "CC", "SCD", "MSE"):
        assert score(*rolled, names=[name])[name] == pytest.approx(score(A, B, MEAN, names=[name])[name], rel=1e-5)


def test_constant_images_are_undefined_or_finite_and_never_nan() -> None:
    flat = np.full((176, 168), 90, dtype=np.uint8)
    for triple in ((flat, flat, flat), (flat, B, flat), (A, flat, A), (A, B, flat)):
        found = score(*triple, names=QUICK)
        assert all(value is None or math.isfinite(value) for value in found.values())
    found = score(flat, flat, flat, names=QUICK)
    assert found["CC"] is None and found["SCD"] is None and found["VIF"] is None and found["Nabf"] is None
    assert (
        score(flat * 0, flat * 0, flat, names=["Qabf"])["Qabf"] is None
    )  # at 90 its border is an edge, as in the paper
    assert found["EN"] == 0 and found["SD"] == 0 and found["SSIM"] == pytest.approx(2)


@pytest.mark.parametrize("side", [1, 2, 3, 8, 11, 40, 41, 95])
def test_tiny_images_are_scored_or_undefined(side: int) -> None:
    tiny = [image[:side, : side + 1] for image in (A, B, MEAN)]
    found = score(*tiny, names=NAMES)
    assert found["MS-SSIM"] is None
    assert (found["SSIM"] is None) == (side < 11)
    assert (found["VIF"] is None) == (side < 41)
    assert found["EN"] is not None


def test_structure_turned_into_its_opposite_counts_nothing_in_ms_ssim() -> None:
    first, negative = (torch.from_numpy(image)[None, None] for image in (A, 255 - A))
    assert similarity.ms_ssim(first, first, negative).item() == 0
    assert similarity.ms_ssim(first, first, first).item() == pytest.approx(2)


def test_ms_ssim_needs_161_pixels() -> None:
    for side, there in ((160, False), (161, True)):
        found = score(A[:side, :168], B[:side, :168], MEAN[:side, :168], names=["MS-SSIM"])["MS-SSIM"]
        assert (found is not None) == there


def test_scores_of_a_batch_are_those_of_its_images() -> None:
    stack = [torch.from_numpy(np.stack([x, y])).float()[:, None] for x, y in ((A, B), (B, A), (MEAN, A))]
    for function in (vif.vif, qabf.qabf, similarity.ssim, similarity.ms_ssim, departures.spurious_edge_share):
        together = function(*stack)
        alone = torch.cat([function(*(image[n : n + 1] for image in stack)) for n in (0, 1)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    from fusion.metrics import information

    together = information.mutual_information(*stack)
    assert together[1] == pytest.approx(information.mutual_information(*(image[1:] for image in stack)).item())


def test_sources_prepared_once_give_the_same_scores() -> None:
    sources = prepare(A, B)
    score_fused(sources, A)
    assert score_fused(sources, MEAN) == pytest.approx(score(A, B, MEAN), rel=1e-5)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(12, 70),
    width=st.integers(12, 70),
    name=st.sampled_from(sorted(NAMES)),
)
def test_every_metric_stays_in_its_range(seed: int, height: int, width: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (height, width), dtype=np.uint8) for _ in range(3)]
    value = score(*images, names=[name])[name]
    low, high = METRICS[name].range
    if value is not None and not name.startswith("FMI"):
        assert low - 1e-6 <= value <= high + 1e-6


@pytest.mark.parametrize("function", [vif.vif, vif.mean_vif, qabf.qabf, similarity.ssim, similarity.ms_ssim])
def test_an_optimiser_can_climb_the_differentiable_metrics(function: vif.Callable) -> None:  # type: ignore[name-defined]
    a, b = (torch.from_numpy(image).float()[None, None] for image in (A, B))
    fused = torch.from_numpy(MEAN).float()[None, None].requires_grad_()
    before = function(Plane(a), Plane(b), fused)
    before.sum().backward()
    assert fused.grad is not None and fused.grad.isfinite().all()
    climbed = fused.detach() + 0.5 * fused.grad / fused.grad.abs().max()
    assert function(a, b, climbed) > before


def test_gradients_stay_finite_on_flat_and_equal_images() -> None:
    flat = torch.full((1, 1, 176, 168), 80.0)
    a = torch.from_numpy(A).float()[None, None]
    for start in (flat, a):
        fused = start.clone().requires_grad_()
        (vif.vif(a, flat + a / 9, fused) + qabf.qabf(a, flat + a / 9, fused)).sum().backward()
        assert fused.grad is not None and fused.grad.isfinite().all()


def test_colour_difference_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(4)
    one, two = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    two[:10] = one[:10]
    two[10:20] = one[10:20] // 2
    expected = deltaE_ciede2000(rgb2lab(one), rgb2lab(two)).mean()
    batches = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in (one, two)]
    assert colour.colour_difference(*batches).item() == pytest.approx(expected, rel=1e-3)
    assert score(one, one[:, :, 0], one[:, :, 0], names=["DeltaE"])["DeltaE"] > 5  # type: ignore[operator]


def test_colour_counts_where_it_is_lit() -> None:
    rng = np.random.default_rng(4)
    one, two = (rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(2))
    one[:12] //= 8  # dark
    grey = rounded_grey(torch.from_numpy(one).permute(2, 0, 1)[None])[0, 0].numpy().astype(np.uint8)
    expected = np.sort(deltaE_ciede2000(rgb2lab(one), rgb2lab(two))[grey >= 64])
    found = score(one, grey, two, names=["DeltaE-lit"])["DeltaE-lit"]
    assert found == pytest.approx(expected[(len(expected) - 1) // 2], rel=1e-3)
    dark = one // 8
    assert score(dark, grey, two, names=["DeltaE-lit"])["DeltaE-lit"] is None


def test_brisque_says_what_to_install_or_scores() -> None:
    try:
        import brisque  # noqa: F401
    except ImportError:
        assert "BRISQUE" not in available_names("standard")
        with pytest.raises(MissingPackage, match="pip install"):
            score(A, B, MEAN, names=["BRISQUE"])
    else:
        assert score(A, B, MEAN, names=["BRISQUE"])["BRISQUE"] is not None


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_metric_stays_on_its_images_device(convention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device ``meta``, which holds no data: a constant made on the CPU, or a value fetched from there, would fail.

    NIQE is left out: it computes its features on the device and compares 36 numbers on the CPU.
    """
    monkeypatch.setattr(
        torch, "bincount", lambda x, minlength: torch.empty(minlength, dtype=torch.int64, device=x.device)
    )
    chosen = CONVENTIONS[convention]
    first, second, fused = (torch.empty(2, n, 200, 200, dtype=torch.uint8, device="meta") for n in (3, 1, 3))
    for name in chosen.functions.keys() - {"NIQE", "BRISQUE"}:
        scores = chosen.functions[name](Sources(first, second, chosen.grey).with_fused(fused))
        assert (scores.device.type, tuple(scores.shape)) == ("meta", (2,)), name


def test_every_metric_is_described() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name and metric.title and metric.range[0] < metric.range[1]
        assert metric.better in ("higher", "lower")
    assert set(DEFAULT_NAMES) < set(METRICS)
    for convention in CONVENTIONS.values():
        assert set(convention.functions) <= set(METRICS)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'zoo'"):
        score(A, B, MEAN, convention="zo")
    with pytest.raises(InputError, match="did you mean 'VIF'"):
        score(A, B, MEAN, names=["VIFF"])
    with pytest.raises(InputError, match="zoo.*no metric 'MS-SSIM'"):
        score(A, B, MEAN, convention="zoo", names=["MS-SSIM"])
    with pytest.raises(InputError, match="168 x 176"):
        score(A, B, MEAN[:-1])
    with pytest.raises(InputError, match="differ in size"):
        score(A, B[:, :-1], MEAN)
    with pytest.raises(InputError, match=r"from -3 to 300"):
        score(A, B, np.array([[-3.0, 300.0]] * 176).repeat(84, 1))
    with pytest.raises(InputError, match="NaN at 1 of"):
        broken = MEAN.astype(np.float32)
        broken[3, 4] = np.nan
        score(A, B, broken)
    with pytest.raises(InputError, match=r"fractional values from 0\.\d+ to"):
        score(A, B, MEAN / 255)
