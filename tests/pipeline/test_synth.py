"""The synthetic set: known events, plausible physics, the same pictures from the same seed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.degrade import DEGRADATIONS
from pipeline.errors import InputError
from pipeline.events import SEVERITIES
from pipeline.hours import HOURS
from pipeline.images import read_image
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs, read_pair
from pipeline.synth import DrawnPair, draw_pair, draw_pairs, read_truth

PAIRS = 10


@pytest.fixture(scope="module")
def scenes() -> list[DrawnPair]:
    return [draw_pair(1, index, 96, 128) for index in range(24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("drawn") / "synthetic"
    draw_pairs(place, PAIRS, 7, height=64, width=96, clean=True)
    return place


def digest(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def test_the_set_is_what_its_manifest_says(folder: Path) -> None:
    pairs = find_pairs(load_manifest("synthetic"), folder.parent)
    assert len(pairs) == PAIRS
    assert [pair.split for pair in pairs].count("test") == PAIRS // 5
    for pair in pairs:
        first, second = read_pair(pair)
        assert first.pixels.shape == (64, 96, 3)
        assert second.pixels.shape == (64, 96)


def test_the_truth_lies_beside_the_pictures(folder: Path) -> None:
    truth = read_truth(folder / "truth.jsonl")
    assert set(truth) == {path.stem for path in (folder / "vi").iterdir()}
    for events in truth.values():
        for event in events:
            assert event.severity in SEVERITIES
            assert event.modality in DEGRADATIONS[event.type].modalities
    line = json.loads((folder / "truth.jsonl").read_text().splitlines()[4])
    assert line["split"] == "test"
    assert line["key"].startswith("test-00004")


def test_the_truth_is_true(folder: Path) -> None:
    """A picture differs from its clean version exactly when the truth names an event for it."""
    for key, events in read_truth(folder / "truth.jsonl").items():
        for modality, name in (("visible", "vi"), ("infrared", "ir")):
            seen, clean = (read_image(folder / part / f"{key}.png").pixels for part in (name, f"clean/{name}"))
            assert np.array_equal(seen, clean) == (not any(event.modality == modality for event in events))


def test_the_same_seed_draws_the_same_bytes_and_more_pairs_keep_the_first(folder: Path, tmp_path: Path) -> None:
    draw_pairs(tmp_path / "again", PAIRS + 1, 7, height=64, width=96, clean=True)
    old, new = digest(folder), digest(tmp_path / "again")
    assert {name: new[name] for name in old if name != "truth.jsonl"} == {
        k: v for k, v in old.items() if k != "truth.jsonl"
    }
    assert not np.array_equal(draw_pair(8, 0, 64, 96).visible, draw_pair(7, 0, 64, 96).visible)


def test_every_hour_and_every_degradation_occurs(scenes: list[DrawnPair]) -> None:
    assert {scene.hour for scene in scenes} == set(HOURS)
    assert {event.type for scene in scenes for event in scene.events} == set(DEGRADATIONS)
    assert any(len({event.modality for event in scene.events}) < 2 for scene in scenes), "no image is clean"


def test_held_out_pairs_show_every_hour() -> None:
    """Hours and the every-fifth rule must not run in step."""
    assert {draw_pair(0, index, 32, 32).hour for index in range(4, 30, 5)} == set(HOURS)


def test_day_is_brighter_than_night_but_warmth_hardly_changes(scenes: list[DrawnPair]) -> None:
    light = {hour: np.mean([s.clean_visible.mean() for s in scenes if s.hour == hour]) for hour in HOURS}
    warmth = {hour: np.mean([s.clean_infrared.mean() for s in scenes if s.hour == hour]) for hour in HOURS}
    assert light["day"] > light["night"] + 0.05
    assert abs(warmth["day"] - warmth["night"]) < 0.15


def test_the_infrared_sky_is_cold_and_something_in_the_street_is_hot(scenes: list[DrawnPair]) -> None:
    for scene in scenes:
        top = scene.clean_infrared[:6]
        assert np.percentile(top, 20) < 0.25
        assert scene.clean_infrared.max() > 0.65


def test_each_camera_sees_what_the_other_does_not(scenes: list[DrawnPair]) -> None:
    """Correlation stays far from one: a pair whose images agree would teach nothing about fusion."""
    for scene in scenes:
        grey = scene.clean_visible.mean(axis=2)
        assert np.corrcoef(grey.ravel(), scene.clean_infrared.ravel())[0, 1] < 0.8


def test_visible_is_in_colour(scenes: list[DrawnPair]) -> None:
    assert all(np.ptp(scene.clean_visible, axis=2).mean() > 0.03 for scene in scenes)


@pytest.mark.parametrize(("pairs", "size"), [(0, 64), (-3, 64), (1, 16)])
def test_an_impossible_wish_is_refused(tmp_path: Path, pairs: int, size: int) -> None:
    with pytest.raises(InputError):
        draw_pairs(tmp_path / "new", pairs, 0, height=size, width=size)
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="not an empty folder"):
        draw_pairs(tmp_path, 1, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_broken_truth_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text('{"key": "a", "events": []}\n{"key": "b"}\n')
    with pytest.raises(InputError, match="line 2"):
        read_truth(path)
    with pytest.raises(InputError, match="no such file"):
        read_truth(tmp_path / "none.jsonl")


def test_a_drawing_that_was_killed_is_begun_anew(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from pipeline.synth import draw_pairs; draw_pairs(Path(sys.argv[1]), 9999, 0)"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "drawn")])
    begun = tmp_path / ".drawn.drawing" / "ir"
    until = time.monotonic() + 60
    while not list(begun.glob("*-00001-*")) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert begun.is_dir() and not (tmp_path / "drawn").exists(), "a half drawn folder has not its name"
    assert len(draw_pairs(tmp_path / "drawn", 2, 0, height=64, width=64)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn"]
    assert len(list((tmp_path / "drawn" / "vi").iterdir())) == 2
