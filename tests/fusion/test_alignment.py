"""Pairs that do not fit are refused with what was measured, and brought together by a known amount when asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from command_line import Run
from fusion.alignment import KINDS, Fit, Fitted, fit, measure, overlap
from fusion.registration import estimate, warp
from fusion.structure import correlate, orientation_field
from pipeline.errors import InputError, PairingError
from pipeline.images import Picture, read_image

NAMES = ("visible.png", "infrared.png")


def scene(height: int = 260, width: int = 340, seed: int = 0) -> NDArray[np.float32]:
    """Boxes and discs of many greys on a slope, (H, W), 0..1: edges of every direction."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    image = 0.4 + 0.1 * columns / width
    for _ in range(40):
        y, x, size = random.uniform(0, height), random.uniform(0, width), random.uniform(6, 40)
        angle = random.uniform(0, np.pi)
        across = (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
        along = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        inside = (np.abs(across) < size) & (np.abs(along) < size / 2)
        image = np.where(inside, random.uniform(0, 1), image)
    return image.astype(np.float32)


def as_infrared(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Another kind of image of the same scene: brightness bent so that many edges change their sign, and noise."""
    noise = np.random.default_rng(9).normal(0, 0.01, image.shape)
    return np.clip(0.5 + 0.45 * np.sin(7 * image) + noise, 0, 1).astype(np.float32)


def picture(values: NDArray[np.float32]) -> Picture:
    return Picture(pixels=np.rint(values * 255).astype(np.uint8))


def true_error(found: torch.Tensor, true: torch.Tensor, height: int, width: int) -> float:
    """Mean distance in pixels between where two matrices put a grid of points."""
    corners = torch.cartesian_prod(torch.linspace(0, width - 1, 7), torch.linspace(0, height - 1, 7)).double()
    points = torch.cat([corners, torch.ones(len(corners), 1)], dim=1)
    one, other = ((points @ matrix.T)[:, :2] / (points @ matrix.T)[:, 2:] for matrix in (found, true))
    return float((one - other).norm(dim=1).mean())


def test_orientation_is_the_doubled_angle_of_the_blurred_gradient() -> None:
    image = scene(40, 56)
    kernel = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    wide = np.pad(image.astype(float), 4, mode="edge")
    for axis in (0, 1):
        wide = np.apply_along_axis(np.convolve, axis, wide, kernel / kernel.sum(), "same")
    down, right = (part[4:-4, 4:-4] for part in np.gradient(wide))
    gradient = right + 1j * down
    inside = np.zeros(image.shape, dtype=bool)
    inside[2:-2, 2:-2] = True
    lengths = np.sort(np.abs(gradient[inside]))
    noise = lengths[(len(lengths) - 1) // 2] + 1e-3
    expected = np.abs(gradient) ** 2 * np.exp(2j * np.angle(gradient)) / (np.abs(gradient) ** 2 + noise**2)
    np.testing.assert_allclose(
        orientation_field(image), np.where(inside, expected, 0), atol=1e-2
    )  # the kernel has four decimals
    hidden = np.ones_like(inside)
    hidden[20, 30] = False
    masked = orientation_field(image, valid=hidden)
    near = np.zeros_like(inside)
    near[18:23, 28:33] = True
    np.testing.assert_allclose(masked, np.where(near, 0, orientation_field(image)), atol=1e-2)


@pytest.mark.parametrize(("size", "other"), [((12, 20), (12, 20)), ((11, 18), (15, 9))])
def test_the_correlation_peaks_where_a_search_over_all_shifts_does(
    size: tuple[int, int], other: tuple[int, int]
) -> None:
    random = np.random.default_rng(3)
    fields = [(random.normal(size=s) + 1j * random.normal(size=s)).astype(np.complex64) for s in (size, other)]
    sums = {}
    for down in range(-other[0] + 1, size[0]):
        for right in range(-other[1] + 1, size[1]):
            rows = slice(max(0, down), min(size[0], down + other[0]))
            columns = slice(max(0, right), min(size[1], right + other[1]))
            moved = fields[1][rows.start - down : rows.stop - down, columns.start - right : columns.stop - right]
            sums[right, down] = float((fields[0][rows, columns] * moved.conj()).real.sum())
    right, down, height, lead = correlate(*fields)
    best = max(sums, key=lambda at: sums[at])
    assert abs(right - best[0]) <= 0.5 and abs(down - best[1]) <= 0.5
    shifts = [-(-(size[axis] + other[axis]) // 32) * 32 for axis in (0, 1)]
    everywhere = np.zeros(shifts)
    everywhere.flat[: len(sums)] = list(sums.values())
    assert height == pytest.approx((sums[best] - everywhere.mean()) / everywhere.std(), rel=1e-4)
    next_best = max(value for at, value in sums.items() if max(abs(at[0] - best[0]), abs(at[1] - best[1])) > 6)
    assert lead == pytest.approx(sums[best] / next_best, rel=1e-4)


def test_what_is_measured_does_not_hang_on_a_size_that_divides_evenly() -> None:
    wide = scene(420, 560)
    for height, width in ((256, 384), (255, 383)):  # an even third of the longer side, and a little less
        shift = measure(
            picture(wide[20 : 20 + height, 30 : 30 + width]),
            picture(as_infrared(wide)[32 : 32 + height, 3 : 3 + width]),
        )
        assert shift.clear and shift.right == pytest.approx(27, abs=0.6) and shift.down == pytest.approx(-12, abs=0.6)


def test_sixteen_bits_measure_as_their_upper_eight_do() -> None:
    wide, random = scene(200, 260), np.random.default_rng(0)
    pair = [picture(wide[8:168, :220]), picture(as_infrared(wide)[:160, 12:232])]
    lower = random.integers(0, 256, (160, 220), dtype=np.uint16)
    deep = [Picture(pixels=one.pixels * np.uint16(256) + lower) for one in pair]
    shift = measure(*pair)
    assert shift.clear and measure(*deep) == shift


def test_a_shift_of_a_large_image_is_found_to_a_fraction_of_a_pixel() -> None:
    """Searched at a third of the size: what that leaves open is found at the finest level."""
    wide = scene(520, 700)
    visible, infrared = wide[7:487, 9:649], as_infrared(wide)[17:497, 29:669]
    found = estimate(*(torch.from_numpy(np.ascontiguousarray(image)) for image in (visible, infrared)), "shift")
    np.testing.assert_allclose(found.matrix[:2, 2], [20, 10], atol=0.06)


def test_pixel_centres_of_half_the_resolution_lie_between_those_of_the_whole() -> None:
    image = scene(160, 208)
    small = as_infrared(image).reshape(80, 2, 104, 2).mean(axis=(1, 3))
    found = estimate(torch.from_numpy(image), torch.from_numpy(small), "affine")
    true = torch.tensor([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]], dtype=torch.float64)
    assert true_error(found.matrix, true, 80, 104) < 0.3


def test_a_known_shift_is_undone_to_the_pixel_and_cropped_to_what_both_show() -> None:
    wide = scene(300, 400)
    visible = wide[20:280, 30:370]
    infrared = as_infrared(wide)[32:292, 11:351]  # its content lies 19 pixels right of the visible's and 12 up
    fitted = fit(picture(visible), picture(infrared), NAMES, Fit(align="shift"))
    assert fitted.transform is not None
    matrix = np.array(fitted.transform["infrared_to_visible"])
    np.testing.assert_allclose(matrix, [[1, 0, -19], [0, 1, 12], [0, 0, 1]], atol=0.5)
    crop = fitted.transform["crop"]
    assert abs(crop["width"] - 321) <= 1 and abs(crop["height"] - 248) <= 1
    left, top = crop["left"], crop["top"]
    assert left == 0 and abs(top - 12) <= 1
    expected = as_infrared(wide)[20 + top :, 30:][: crop["height"], : crop["width"]]
    assert fitted.visible.size == fitted.infrared.size == (crop["height"], crop["width"])
    assert np.abs(fitted.infrared.pixels / 255 - expected).mean() < 0.02
    np.testing.assert_array_equal(
        fitted.visible.pixels, picture(visible).pixels[top : top + crop["height"], : crop["width"]]
    )


@pytest.mark.parametrize(
    ("kind", "true"),
    [
        ("affine", [[1.06, -0.05, -9.0], [0.03, 1.02, 5.0], [0, 0, 1]]),
        ("homography", [[1.04, -0.03, -8.0], [0.03, 1.03, 6.0], [8e-5, -5e-5, 1]]),
    ],
)
def test_a_known_transform_is_found(kind: str, true: list[list[float]]) -> None:
    matrix = torch.tensor(true, dtype=torch.float64)
    image = scene()
    infrared, _ = warp(torch.from_numpy(as_infrared(image))[None], matrix.inverse(), (260, 340))
    found = estimate(torch.from_numpy(image), infrared[0], kind)
    assert found.found.clear
    assert true_error(found.matrix, matrix, 260, 340) < 1.0
    assert found.before is not None and found.score > found.before


def test_an_infrared_image_of_another_resolution_is_found() -> None:
    image = scene(240, 320)
    small = Image.fromarray(as_infrared(image)).crop((40, 24, 296, 216)).resize((160, 120), Image.Resampling.BOX)
    visible, infrared = picture(image), picture(np.asarray(small))
    fitted = fit(visible, infrared, NAMES, Fit(align="affine"))
    assert fitted.transform is not None
    true = torch.tensor([[1.6, 0, 40.3], [0, 1.6, 24.3], [0, 0, 1]], dtype=torch.float64)
    found = torch.tensor(fitted.transform["infrared_to_visible"], dtype=torch.float64)
    assert true_error(found, true, 120, 160) < 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_an_infrared_image_is_scaled_before_it_is_aligned(kind: str) -> None:
    """Half as large and moved by (26, -12) of the visible's pixels: a shift alone would keep its pixels' size."""
    wide = scene(300, 400)
    visible, whole = picture(wide[20:280, 30:370]), Image.fromarray(as_infrared(wide)[32:292, 4:344])
    infrared = picture(np.asarray(whole.resize((170, 130), Image.Resampling.BOX)))
    fitted = fit(visible, infrared, NAMES, Fit(align=kind, resize=True))
    assert fitted.transform is not None and fitted.transform["infrared"]["width"] == 170
    true = torch.tensor([[2, 0, -25.5], [0, 2, 12.5], [0, 0, 1]], dtype=torch.float64)
    found = torch.tensor(fitted.transform["infrared_to_visible"], dtype=torch.float64)
    assert true_error(found, true, 130, 170) < 1.5
    same = fit(visible, picture(np.asarray(whole)), NAMES, Fit(align=kind))
    assert abs(fitted.visible.size[0] - same.visible.size[0]) <= 3 and fitted.visible.size == fitted.infrared.size


@pytest.mark.parametrize(("folder", "stem"), [("roadscene", "FLIR_06660"), ("msrs/test", "00349D")])
def test_a_real_infrared_image_moved_by_a_known_shift_comes_back(data_root: Path, folder: str, stem: str) -> None:
    visible, infrared = (
        read_image(next((data_root / folder / kind).glob(f"{stem}.*"))).as_grey() for kind in ("vi", "ir")
    )
    right, down = 23, -14
    height = infrared.shape[0]
    own = estimate(torch.from_numpy(visible), torch.from_numpy(infrared), "shift").matrix
    shifted = np.roll(infrared, (down, right), axis=(0, 1))[: height + down, right:]
    moved = estimate(torch.from_numpy(visible), torch.from_numpy(np.ascontiguousarray(shifted)), "shift").matrix
    # The crop starts at column `right`, so that its content is again where it was; only rows have moved.
    difference = moved[:2, 2] - own[:2, 2]
    assert float((difference - torch.tensor([0.0, 14.0])).norm()) < 1.0
    assert float(own[:2, 2].norm()) < 6, "the pair itself is aligned to a few pixels"


def test_a_misaligned_pair_is_refused_with_the_shift_that_was_measured() -> None:
    wide = scene(300, 400)
    with pytest.raises(PairingError, match=r"about 2[67] pixels right and 1[0-4] up .*--align shift") as refusal:
        fit(picture(wide[20:280, 30:370]), picture(as_infrared(wide)[32:292, 3:343]), NAMES)
    assert "visible.png and infrared.png are misaligned" in str(refusal.value)
    as_it_is = fit(picture(wide[20:280, 30:370]), picture(as_infrared(wide)[32:292, 3:343]), NAMES, Fit(align="none"))
    assert as_it_is.visible.size == (260, 340)


def test_unlike_sizes_are_refused_with_both_sizes_and_a_measurement() -> None:
    image = scene()
    small = picture(np.asarray(Image.fromarray(as_infrared(image)).resize((170, 130), Image.Resampling.BOX)))
    with pytest.raises(PairingError, match=r"340 x 260 pixels, .* 170 x 130.*infrared image lies.*--resize") as refusal:
        fit(picture(image), small, NAMES)
    assert "none" not in str(refusal.value) and "shift" not in str(refusal.value), "neither helps here"
    resized = fit(picture(image), small, NAMES, Fit(resize=True))
    assert resized.infrared.size == (260, 340) and resized.transform is None


def test_images_of_different_scenes_are_not_aligned() -> None:
    with pytest.raises(PairingError, match="do they show one scene"):
        fit(picture(scene(seed=1)), picture(as_infrared(scene(seed=2))), NAMES, Fit(align="shift"))


@pytest.mark.parametrize("folder", ["roadscene", "tno", "m3fd", "msrs/train", "llvip/test"])
def test_no_real_pair_is_refused(data_root: Path, folder: str) -> None:
    visible = sorted((data_root / folder / "vi").iterdir())
    for path in visible[:: max(1, len(visible) // 12)]:
        other = next((data_root / folder / "ir").glob(f"{path.stem}.*"))
        pair = read_image(path), read_image(other)
        assert isinstance(fit(*pair, (path.name, other.name)), Fitted)
        shift = measure(*pair)
        assert not shift.clear or shift.distance < 0.03 * max(pair[0].size)


def test_sixteen_bits_survive_a_move() -> None:
    wide = scene(280, 360)
    deep = Picture(pixels=np.rint(as_infrared(wide)[16:276, 20:360] * 65535).astype(np.uint16))
    fitted = fit(picture(wide[10:270, 10:350]), deep, NAMES, Fit(align="shift"))
    assert fitted.infrared.pixels.dtype == np.uint16 and len(np.unique(fitted.infrared.pixels)) > 1000


def test_the_overlap_holds_no_pixel_outside() -> None:
    rows, columns = np.mgrid[:80, :120]
    leaning = (columns > 0.2 * rows + 5) & (columns < 100 + 0.2 * rows) & (rows > 0.1 * columns) & (rows < 70)
    left, top, right, bottom = overlap(leaning)
    assert leaning[top:bottom, left:right].all()
    assert (right - left) * (bottom - top) > 0.7 * leaning.sum()
    assert overlap(np.ones((9, 7), dtype=bool)) == (0, 0, 7, 9)
    assert overlap(np.zeros((9, 7), dtype=bool)) == (0, 0, 0, 0)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'affine'"):
        Fit(align="afine")


def test_the_command_writes_the_transform_beside_the_image(fusioncli: Run, tmp_path: Path) -> None:
    wide = scene(300, 400)
    Image.fromarray(np.repeat(picture(wide[20:280, 30:370]).pixels[..., None], 3, 2)).save(tmp_path / "v.png")
    Image.fromarray(picture(as_infrared(wide)[32:292, 3:343]).pixels).save(tmp_path / "i.png")
    done = fusioncli("fuse", "v.png", "i.png", "--out", "f.png", "--weights", "nano", "--align", "shift")
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "f.png.transform.json").read_text())
    assert Image.open(tmp_path / "f.png").size == (described["crop"]["width"], described["crop"]["height"])
    assert abs(described["infrared_to_visible"][0][2] + 27) < 0.5


def test_a_pair_of_two_sizes_is_told_in_whole_sentences() -> None:
    visible = scene()
    with pytest.raises(
        PairingError, match=r"of one size\. Scaled to it, the infrared image lies on the visible one\. "
    ):
        fit(picture(visible), picture(as_infrared(visible)[::2, ::2]), NAMES)
    with pytest.raises(PairingError, match=r"of one size\. Scaled to it, they share too few edges "):
        fit(picture(visible), picture(np.full((130, 170), 0.5, np.float32)), NAMES)
