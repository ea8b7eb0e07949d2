"""`data check` finds every kind of damage at once, by path, and passes what is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bad_files import cut_short, png_bomb, save_colour, save_grey
from pipeline.check import CheckReport, check_dataset
from pipeline.errors import PairingError
from pipeline.manifest import load_manifest


@pytest.fixture
def llvip(tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "test")):
        for index in range(4):
            seed = 10 * number + index
            save_colour(tmp_path / "llvip" / split / "vi" / f"{seed:02d}.png", seed=seed)
            save_grey(tmp_path / "llvip" / split / "ir" / f"{seed:02d}.png", seed=seed)
    return tmp_path / "llvip"


def check(home: Path) -> CheckReport:
    return check_dataset(load_manifest("llvip"), home.parent)


def kinds(report: CheckReport) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path) for problem in report.problems]


def test_a_whole_set_has_no_problem(llvip: Path) -> None:
    report = check(llvip)
    assert report.ok
    assert [(split.name, split.pairs, split.sizes) for split in report.splits] == [
        ("train", 4, {(24, 32): 4}),
        ("test", 4, {(24, 32): 4}),
    ]
    assert any("4 of the 12,025 pairs" in note for note in report.notes)


def test_all_damage_is_reported_at_once(llvip: Path) -> None:
    train, test = llvip / "train", llvip / "test"
    (train / "ir" / "00.png").unlink()
    cut_short(train / "vi" / "01.png")
    (train / "ir" / "02.png").write_bytes(b"")
    (train / "vi" / "notes.txt").write_text("x")
    save_grey(test / "ir" / "10.png", 24, 40)
    save_colour(test / "ir" / "11.png", seed=3)
    png_bomb(test / "vi" / "12.png")
    save_grey(test / "vi" / "13.png", 1, 1)
    save_grey(test / "ir" / "13.png", 1, 1)
    report = check(llvip)
    assert set(kinds(report)) == {
        ("orphan", str(train / "vi" / "00.png")),
        ("unreadable", str(train / "vi" / "01.png")),
        ("unreadable", str(train / "ir" / "02.png")),
        ("stray file", str(train / "vi" / "notes.txt")),
        ("mismatch", str(test / "vi" / "10.png")),
        ("mismatch", str(test / "ir" / "11.png")),
        ("unreadable", str(test / "vi" / "12.png")),
        ("unreadable", str(test / "vi" / "13.png")),
    }
    assert [split.pairs for split in report.splits] == [1, 0]


def test_what_a_file_manager_left_is_a_note(llvip: Path) -> None:
    (llvip / "train" / "vi" / "Thumbs.db").write_text("x")
    (llvip / "test" / "ir" / "._00.png").write_text("x")
    report = check(llvip)
    assert report.ok and [split.pairs for split in report.splits] == [4, 4]
    for path in (llvip / "train" / "vi" / "Thumbs.db", llvip / "test" / "ir" / "._00.png"):
        assert f"{path}: passed over, as no image" in report.notes


@pytest.mark.parametrize("modality", ["vi", "ir"])
def test_overlap_is_found_by_pixels_not_by_name_or_bytes(llvip: Path, modality: str) -> None:
    from PIL import Image

    with Image.open(llvip / "train" / modality / "02.png") as image:
        (llvip / "test" / modality / "11.png").unlink()
        image.save(llvip / "test" / modality / "11.bmp")
    report = check(llvip)
    assert kinds(report) == [("overlap", str(llvip / "test" / modality / "11.bmp"))]
    assert str(llvip / "train" / modality / "02.png") in report.problems[0].message


def test_a_copy_within_a_split_is_a_note(llvip: Path) -> None:
    for modality in ("vi", "ir"):
        shutil.copy(llvip / "train" / modality / "00.png", llvip / "train" / modality / "09.png")
    report = check(llvip)
    assert report.ok
    assert "train: 09 and 00 are one and the same pair" in report.notes


def test_missing_folders(llvip: Path, tmp_path: Path) -> None:
    shutil.rmtree(llvip / "test" / "ir")
    report = check(llvip)
    assert ("missing folder", str(llvip / "test" / "ir")) in kinds(report)
    shutil.rmtree(llvip)
    with pytest.raises(PairingError, match="no such folder; llvip should lie there"):
        check_dataset(load_manifest("llvip"), tmp_path)


def test_a_set_of_empty_folders_is_not_sound(llvip: Path) -> None:
    for modality in ("vi", "ir"):
        for path in (llvip / "test" / modality).iterdir():
            path.unlink()
    report = check(llvip)
    assert ("empty folder", str(llvip / "test" / "vi")) in kinds(report)
    assert not report.ok


def test_members_of_a_split_file_must_be_there(data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "tno", tmp_path / "tno")
    (tmp_path / "tno" / "vi" / "07.png").unlink()
    (tmp_path / "tno" / "ir" / "07.png").unlink()
    save_grey(tmp_path / "tno" / "ir" / "77.png")
    report = check_dataset(load_manifest("tno"), tmp_path)
    assert {kind for kind, _ in kinds(report)} == {"missing member", "stray file"}
    assert len(report.problems) == 2
    assert "test: 4 of 4 pairs are on the list that training refuses" in report.notes


def test_test_pictures_under_another_name_in_train_are_found(data_root: Path, llvip: Path) -> None:
    shutil.copy(data_root / "msrs" / "test" / "vi" / "00004N.webp", llvip / "train" / "vi" / "77.webp")
    shutil.copy(data_root / "msrs" / "test" / "ir" / "00004N.png", llvip / "train" / "ir" / "77.png")
    report = check(llvip)
    assert kinds(report) == [("test content", str(llvip / "train" / "vi" / "77.webp"))]
    assert "00004N in the test split of msrs" in report.problems[0].message


@pytest.mark.parametrize("name", ["roadscene", "tno", "harvard-ct-mri", "harvard-spect-mri"])
def test_the_real_sets_are_whole(data_root: Path, name: str) -> None:
    report = check_dataset(load_manifest(name), data_root)
    assert report.ok, report.problems
    test = next(split for split in report.splits if split.name == "test")
    assert [split.pairs for split in report.splits] == [split.expected for split in report.splits]
    assert f"test: {test.pairs} of {test.pairs} pairs are on the list that training refuses" in report.notes


@pytest.mark.slow  # decodes 365 pairs of 640 x 480: about twelve seconds
def test_msrs_is_whole_but_for_its_train_pairs(data_root: Path) -> None:
    report = check_dataset(load_manifest("msrs"), data_root)
    assert report.ok
    assert [split.pairs for split in report.splits] == [4, 361]
    assert "test: 361 of 361 pairs are on the list that training refuses" in report.notes
