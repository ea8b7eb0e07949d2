"""What lies in a folder beside its images: refused, or passed over where macOS or Windows put it, and named either way."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_files import save_colour, save_grey
from pipeline import console
from pipeline.errors import PairingError
from pipeline.pairs import pair_folders


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for index, stem in enumerate(("a", "b", "c")):
        save_colour(tmp_path / "vi" / f"{stem}.png", seed=index)
        save_grey(tmp_path / "ir" / f"{stem}.png", seed=index)
    return tmp_path / "vi", tmp_path / "ir"


@pytest.mark.parametrize("name", ["notes.db", "notes.txt", ".hidden", "subfolder"])
def test_a_stray_is_named(folders: tuple[Path, Path], name: str) -> None:
    (folders[1] / name).mkdir() if name == "subfolder" else (folders[1] / name).write_text("x")
    with pytest.raises(PairingError) as caught:
        pair_folders(*folders)
    assert str(folders[1] / name) in str(caught.value)


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "desktop.ini", "._a.png"])
def test_what_macos_and_windows_leave_is_named_and_passed_over(
    folders: tuple[Path, Path], name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(console._state, "quiet", False)
    (folders[1] / name).write_text("x")
    pairs = pair_folders(*folders)
    assert [pair.stem for pair in pairs] == ["a", "b", "c"]
    assert capsys.readouterr().err == f"passed over, as no image: {folders[1] / name}\n"
    assert len(pair_folders(*folders)) == 3 and capsys.readouterr().err == "", "it is said once"
    for image in folders[1].glob("[abc].png"):
        image.unlink()
    with pytest.raises(PairingError, match="the folder is empty"):
        pair_folders(*folders)


def test_a_folder_is_not_passed_over_by_its_name(folders: tuple[Path, Path]) -> None:
    (folders[1] / "._more").mkdir()
    with pytest.raises(PairingError, match=r"not images: .*\._more"):
        pair_folders(*folders)


def test_two_files_of_one_stem_are_refused(folders: tuple[Path, Path]) -> None:
    save_grey(folders[1] / "a.bmp")
    with pytest.raises(PairingError, match="several files have the stem a"):
        pair_folders(*folders)
