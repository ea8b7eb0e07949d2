"""``fusioncli fuse`` on files and folders, with a network whose answer is known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Run
from fresh_network import fresh_weights, picture, soft_maximum
from fusion import Fuser


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nano network with its fresh weights: a soft maximum of both lumas, which keeps the visible chroma."""
    return fresh_weights(tmp_path_factory.mktemp("weights") / "nano")


def test_the_fused_file_is_what_the_network_computes_at_the_size_that_went_in(
    fusioncli: Run, weights: Path, tmp_path: Path
) -> None:
    visible = picture(tmp_path / "visible.png", (37, 53), "RGB", 1)
    infrared = picture(tmp_path / "infrared.png", (37, 53), "L", 2)
    done = fusioncli("fuse", visible, infrared, "--out", "fused.png", "--weights", weights)
    assert done.returncode == 0, done.stderr
    fused = np.asarray(Image.open(tmp_path / "fused.png"))
    expected = soft_maximum(np.asarray(Image.open(visible)) / 255, np.asarray(Image.open(infrared)) / 255)
    assert fused.shape == (37, 53, 3)
    assert np.abs(fused - expected * 255).max() <= 0.51


def test_sixteen_bit_grey_goes_in_and_comes_out(weights: Path, tmp_path: Path) -> None:
    from fusion.fused_image import Output
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (24, 24), "I;16", 1)
    infrared = picture(tmp_path / "i.tiff", (24, 24), "I;16", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png", Output(sixteen_bit=True))
    fused = np.asarray(Image.open(tmp_path / "f.png"))
    first, second = (np.asarray(Image.open(path)) / 65535 for path in (visible, infrared))
    expected = soft_maximum(np.repeat(first[..., None], 3, 2), second)[..., 0]
    assert fused.dtype == np.uint16 and np.abs(fused / 65535 - expected).max() < 1e-4


def test_transparency_and_orientation_survive(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (20, 30), "RGBA", 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png")
    fused = Image.open(tmp_path / "f.png")
    assert fused.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(fused)[..., 3], np.asarray(Image.open(visible))[..., 3])

    upright = Image.open(infrared)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    fuse_file(Fuser.from_pretrained(weights), visible, tmp_path / "turned.png", tmp_path / "g.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "g.png")), np.asarray(fused))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
def test_transparency_is_kept_in_every_format_that_can_hold_it(weights: Path, tmp_path: Path, suffix: str) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (20, 30), "RGBA", 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / f"f{suffix}")
    with Image.open(tmp_path / f"f{suffix}") as fused, Image.open(visible) as seen:
        assert fused.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(fused)[..., 3], np.asarray(seen)[..., 3])


def test_a_name_too_long_for_a_transform_beside_it_is_no_failure(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (20, 30), "RGB", 1)
    infrared = picture(tmp_path / "i.png", (20, 30), "L", 2)
    out = tmp_path / f"{'n' * 243}.png"
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, out)
    assert out.is_file()


def test_a_transform_of_an_earlier_run_goes_where_nothing_was_moved_now(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    visible = picture(tmp_path / "v.png", (16, 16), "RGB", 1)
    infrared = picture(tmp_path / "i.png", (16, 16), "L", 2)
    (tmp_path / "f.png.transform.json").write_text("{}")
    fuse_file(Fuser.from_pretrained(weights), visible, infrared, tmp_path / "f.png")
    assert (tmp_path / "f.png").exists() and not (tmp_path / "f.png.transform.json").exists()


def test_a_grey_visible_gives_a_grey_result(weights: Path, tmp_path: Path) -> None:
    from fusion.inference import fuse_file

    paths = [picture(tmp_path / f"{name}.png", (16, 16), "L", seed) for seed, name in enumerate("vi")]
    fuse_file(Fuser.from_pretrained(weights), *paths, tmp_path / "f.png")
    assert Image.open(tmp_path / "f.png").mode == "L"


def test_folders_are_matched_by_stem_and_a_second_run_keeps_what_is_proven(
    fusioncli: Run, weights: Path, tmp_path: Path
) -> None:
    for index, stem in enumerate(("a", "b é 夜", "c.d")):
        picture(tmp_path / "vi" / f"{stem}.webp", (16, 24), "RGB", index)
        picture(tmp_path / "ir" / f"{stem}.png", (16, 24), "L", 10 + index)
    command = ("fuse", "vi", "ir", "--out", "out", "--weights", weights)
    assert fusioncli(*command).returncode == 0
    outputs = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert outputs == ["a.png", "b é 夜.png", "c.d.png"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    (tmp_path / "out" / "a.png").write_bytes(b"somebody touched it")
    assert fusioncli(*command).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert before["c.d.png"] == after["c.d.png"]
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).shape == (16, 24, 3)


def test_a_pair_that_fails_is_named_and_the_others_are_made(fusioncli: Run, weights: Path, tmp_path: Path) -> None:
    for index, stem in enumerate("abc"):
        picture(tmp_path / "vi" / f"{stem}.png", (16, 24), "RGB", index)
        picture(tmp_path / "ir" / f"{stem}.png", (16, 24), "L", 10 + index)
    broken = tmp_path / "vi" / "b.png"
    broken.write_bytes(broken.read_bytes()[:60])
    done = fusioncli("fuse", "vi", "ir", "--out", "out", "--weights", weights)
    assert done.returncode == 3
    assert "b.png" in done.stderr and "1 of 3" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "fused.csv"]
    with (tmp_path / "out" / "fused.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "failed", "ok"]


def test_every_roadscene_pair_keeps_its_awkward_size(weights: Path, data_root: Path, tmp_path: Path) -> None:
    from fusion.folders import fuse_folders

    fuser = Fuser.from_pretrained(weights)
    visible = data_root / "roadscene" / "vi"
    entries = fuse_folders(fuser, visible, data_root / "roadscene" / "ir", tmp_path / "out")
    assert len(entries) == 221
    for path in visible.iterdir():
        assert Image.open(tmp_path / "out" / f"{path.stem}.png").size == Image.open(path).size


@pytest.mark.parametrize("tile", [-5, 0, 100])
def test_a_tile_that_cannot_overlap_is_refused_before_anything_is_read(
    fusioncli: Run, weights: Path, tmp_path: Path, tile: int
) -> None:
    for name in ("v", "i"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "a.png", (20, 30), "L", 1)
    done = fusioncli("fuse", "v", "i", "--out", "o", "--weights", str(weights), "--tile", str(tile))
    assert done.returncode == 2 and not (tmp_path / "o").exists()
    assert done.stderr.count("\n") == 1 and f"--tile {tile}: tiles share" in done.stderr


def test_what_a_shell_makes_of_a_pattern_is_told_apart(fusioncli: Run, tmp_path: Path) -> None:
    names = [f"{side}/{number}.png" for side in ("vis", "ir") for number in range(3)]
    done = fusioncli("fuse", *names, "--out", "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "6 names were given" in done.stderr and "vis/*" in done.stderr and "give the two folders" in done.stderr
    assert not (tmp_path / "out").exists()
