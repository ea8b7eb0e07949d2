"""What is drawn on an image is read off it again; what is not there is not claimed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.agreement import Agreement, compare, truth_labels
from pipeline.captioners import make_captioner
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.measured import RULES, MeasuredCaptioner, MeasuredSettings
from pipeline.captioners.readings import read_pixels
from pipeline.degrade import DEGRADATIONS, degrade
from pipeline.events import Caption
from pipeline.images import Picture, read_image
from pipeline.task_file import load_task

IVF = load_task("ivf")
RANK = {"slight": 1, "moderate": 2, "severe": 3}


def say(first: Picture, second: Picture, task: str = "ivf") -> Caption:
    loaded = load_task(task)
    captioner = MeasuredCaptioner(loaded, MeasuredSettings())
    return captioner.caption([CaptionRequest(key="a", pair_id="b", first=first, second=second)])[0]


def named(caption: Caption, modality: str) -> dict[str, str | None]:
    return {event.type: event.severity for event in caption.events if event.modality == modality}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pipeline.synth import draw_pairs

    folder = tmp_path_factory.mktemp("synthetic") / "set"
    draw_pairs(folder, 32, seed=11)
    return folder


def _agreement(drawn: Path) -> Agreement:
    captioner = make_captioner("measured", IVF, {})
    said = {}
    for path in sorted((drawn / "vi").iterdir()):
        pictures = read_image(path), read_image(drawn / "ir" / path.name)
        request = CaptionRequest(key=path.stem, pair_id=path.stem, first=pictures[0], second=pictures[1])
        events = captioner.caption([request])[0].events
        said[path.stem] = frozenset((event.modality, event.type) for event in events if event.type != "clean")
    return compare(said, truth_labels(drawn / "truth.jsonl"))


def test_known_degradations_are_found_and_no_others(drawn: Path) -> None:
    agreement = _agreement(drawn)
    assert agreement.pairs == 32
    assert len(agreement.events) >= 6
    for event in agreement.events:
        assert event.precision is not None and event.precision >= 0.85, event
        assert event.recall is not None and event.recall >= (0.6 if event.label == "motion_blur" else 0.8), event


@pytest.mark.parametrize("label", sorted(DEGRADATIONS))
def test_real_images_are_read_right(label: str, data_root: Path) -> None:
    """Drawn on real images, a severe degradation is found, and its figure grows with severity."""
    rule = next(rule for rule in RULES["ivf"] if rule.label == label)
    modality = DEGRADATIONS[label].modalities[-1]
    folder = data_root / "roadscene" / ("vi" if modality == "visible" else "ir")
    found, rising = 0, 0
    paths = sorted(folder.iterdir())[:200:25]
    for path in paths:
        image = read_image(path).pixels.astype(np.float32) / 255
        figures, severity = [], None
        for strength in RANK:
            pixels = np.rint(degrade(np.random.default_rng(5), image, label, strength) * 255).astype(np.uint8)
            readings = read_pixels(Picture(pixels=pixels))
            figures.append(rule.figure(readings))
            severity = rule.severity(readings)
        found += severity is not None
        worse = np.diff(figures) * (1 if rule.limits[0] < rule.limits[-1] else -1)
        rising += bool((worse > -0.03).all())
    assert found >= len(paths) - 1
    assert rising >= len(paths) - 2


def test_the_grain_is_measured_in_levels() -> None:
    rng = np.random.default_rng(0)
    for sigma in (2.0, 8.0, 20.0):
        image = np.full((240, 320), 128.0) + rng.normal(0, sigma, (240, 320))
        readings = read_pixels(Picture(pixels=np.rint(image).clip(0, 255).astype(np.uint8)))
        assert readings.noise == pytest.approx(sigma, rel=0.2)
        assert readings.stripes < 0.5 + sigma / 4


@pytest.mark.parametrize("size", [(480, 640), (192, 256), (60, 50)])
@pytest.mark.parametrize("axis", [0, 1])
def test_stripes_are_measured_in_levels_along_rows_and_along_columns(axis: int, size: tuple[int, int]) -> None:
    for sigma in (4.0, 12.0):
        lines = np.random.default_rng(2).normal(128, sigma, size[axis])
        image = np.broadcast_to(lines[:, None] if axis == 0 else lines, size)
        readings = read_pixels(Picture(pixels=np.rint(image).clip(0, 255).astype(np.uint8)))
        assert readings.stripes == pytest.approx(sigma, rel=0.5)


def test_sixteen_bits_read_as_eight_do() -> None:
    rng = np.random.default_rng(1)
    eight = rng.integers(0, 256, (64, 80), dtype=np.uint8)
    wide = Picture(pixels=(eight.astype(np.uint16) * 257))
    assert vars(read_pixels(wide)) == pytest.approx(vars(read_pixels(Picture(pixels=eight))), abs=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 7), (8, 8), (17, 400), (131, 33)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_any_size_and_any_flat_image_can_be_read(size: tuple[int, int], level: int) -> None:
    flat = Picture(pixels=np.full(size, level, dtype=np.uint8))
    caption = say(flat, flat)
    assert caption.error_kind is None
    assert {event.modality for event in caption.events} == {"visible", "infrared"}
    assert all(np.isfinite(value) for value in vars(read_pixels(flat)).values())
    json.dumps([vars(event) for event in caption.events])


def test_black_is_dark_and_white_is_burnt_out() -> None:
    black, white = (Picture(pixels=np.full((64, 64, 3), level, dtype=np.uint8)) for level in (0, 255))
    grey = Picture(pixels=np.full((64, 64), 128, dtype=np.uint8))
    assert named(say(black, grey), "visible")["low_light"] == "severe"
    assert named(say(white, grey), "visible")["over_exposure"] == "severe"


@pytest.mark.parametrize(("level", "severity"), [
    (60, None), (59, "slight"), (31, "slight"), (30, "moderate"), (16, "moderate"), (15, "severe")
])  # fmt: skip
def test_low_light_starts_at_its_limits(level: int, severity: str | None) -> None:
    flat = Picture(pixels=np.full((64, 64, 3), level, dtype=np.uint8))
    grey = Picture(pixels=np.full((64, 64), 128, dtype=np.uint8))
    assert named(say(flat, grey), "visible").get("low_light") == severity


def scan(black: int) -> Picture:
    """Tissue between 110 and 140 of 255 with that many black pixels around it."""
    tissue = np.tile(np.linspace(110, 140, 60), (60, 1))
    return Picture(pixels=np.pad(tissue.astype(np.uint8), black))


def test_the_black_around_a_scan_is_no_contrast() -> None:
    for black in (0, 30):
        assert named(say(scan(black), scan(black), "medical"), "ct")["contrast_enhancement"] == "severe"


def test_scans_that_share_their_edges_are_consistent_by_how_well_they_agree() -> None:
    random = np.random.default_rng(0)
    steps = random.integers(0, 200, (16, 16), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    reached = []
    for grain in (0, 28, 45, 200):
        noisy = (steps + random.normal(0, grain, steps.shape)).clip(0, 255).astype(np.uint8)
        caption = say(Picture(pixels=steps), Picture(pixels=noisy), "medical")
        reached.append(named(caption, "ct").get("structure_consistency"))
    assert reached == ["severe", "moderate", "slight", None]


def test_medical_pairs_get_the_medical_words(data_root: Path) -> None:
    folder = data_root / "harvard" / "CT-MRI" / "test"
    known = set(load_task("medical").labels())
    for path in sorted((folder / "CT").iterdir())[:6]:
        caption = say(read_image(path), read_image(folder / "MRI" / path.name), "medical")
        assert {event.type for event in caption.events} <= known
        assert "edge_preservation" in named(caption, "ct")
