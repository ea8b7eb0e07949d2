"""Fusing a folder a second time: what decides whether an image that is there already is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.alignment import Fit
from fusion.folders import LOG, Entry, FolderOptions, fuse_folders, read_log
from fusion.inference import Fuser
from test_alignment import as_infrared, picture, scene

MOVED = Fit(align="shift")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two pairs, whose infrared image lies 14 pixels right and 9 down; the visible ones are half transparent."""
    for seed, stem in enumerate("ab"):
        wide = scene(140, 180, seed)
        for kind in ("vi", "ir"):
            (tmp_path / kind).mkdir(exist_ok=True)
        grey = picture(wide[9:129, 14:174]).pixels
        seen = np.dstack([grey, grey, 255 - grey, np.arange(160, dtype=np.uint8)[None].repeat(120, 0)])
        Image.fromarray(seen).save(tmp_path / "vi" / f"{stem}.png")
        Image.fromarray(picture(as_infrared(wide)[:120, :160]).pixels).save(tmp_path / "ir" / f"{stem}.png")
    return tmp_path


def run(fuser: Fuser, home: Path, asked: Fit = MOVED) -> list[Entry]:
    return fuse_folders(fuser, home / "vi", home / "ir", home / "out", FolderOptions(asked=asked))


def test_an_aligned_image_is_kept_with_its_transform_and_not_without(fuser: Fuser, home: Path) -> None:
    assert [entry.status for entry in run(fuser, home)] == ["ok", "ok"]
    described = {stem: (home / "out" / f"{stem}.png.transform.json").read_bytes() for stem in "ab"}
    assert [entry.kept for entry in run(fuser, home)] == [True, True]
    (home / "out" / "b.png.transform.json").unlink()
    assert [entry.kept for entry in run(fuser, home)] == [True, False]
    assert (home / "out" / "b.png.transform.json").read_bytes() == described["b"]


def test_the_transparency_is_cropped_as_the_picture_is(fuser: Fuser, home: Path) -> None:
    run(fuser, home)
    crop = json.loads((home / "out" / "a.png.transform.json").read_text())["crop"]
    rows, columns = (slice(crop[at], crop[at] + crop[size]) for at, size in (("top", "height"), ("left", "width")))
    assert crop["width"] < 160 and crop["height"] < 120
    with Image.open(home / "out" / "a.png") as written, Image.open(home / "vi" / "a.png") as visible:
        assert written.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(written)[..., 3], np.asarray(visible)[rows, columns, 3])


def test_another_network_fuses_anew(fuser: Fuser, home: Path) -> None:
    other = Fuser.from_pretrained("edge", device="cpu")
    run(fuser, home)
    before = (home / "out" / "a.png").read_bytes()
    assert [entry.kept for entry in run(other, home)] == [False, False]
    assert (home / "out" / "a.png").read_bytes() != before
    assert [entry.kept for entry in run(other, home)] == [True, True]


@pytest.mark.parametrize("kind", ["vi", "ir"])
def test_another_image_of_the_same_name_is_fused(fuser: Fuser, home: Path, kind: str) -> None:
    none = Fit(align="none")
    run(fuser, home, none)
    (home / kind / "a.png").write_bytes((home / kind / "b.png").read_bytes())
    assert [entry.kept for entry in run(fuser, home, none)] == [False, True]


def test_a_run_on_other_pairs_forgets_none_of_the_earlier_ones(fuser: Fuser, home: Path) -> None:
    run(fuser, home)
    for kind in ("vi", "ir"):
        (home / kind / "a.png").rename(home / kind / "c.png")
    assert [(entry.stem, entry.kept) for entry in run(fuser, home)] == [("b", True), ("c", False)]
    assert set(read_log(home / "out" / LOG)) == set("abc")
    for kind in ("vi", "ir"):
        (home / kind / "c.png").rename(home / kind / "a.png")
    assert [(entry.stem, entry.kept) for entry in run(fuser, home)] == [("a", True), ("b", True)]
