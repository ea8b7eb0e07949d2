"""Pairs: by stem and never by position; strays, orphans and bad files are named; keys are safe everywhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import bad_files
from bad_files import cut_short, png_bomb, save_colour, save_grey
from pipeline.errors import FusionError, ImageError, InputError, PairingError
from pipeline.manifest import load_manifest
from pipeline.pairs import check_order, find_pairs, pair_folders, pair_size, read_pair, safe_key
from pipeline.pairs import data_root as find_root

SAFE = re.compile(r"[A-Za-z0-9_-]{1,72}")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for index, stem in enumerate(("a", "b", "c")):
        save_colour(tmp_path / "vi" / f"{stem}.png", seed=index)
        save_grey(tmp_path / "ir" / f"{stem}.png", seed=index)
    return tmp_path / "vi", tmp_path / "ir"


def test_real_sets_pair_completely(data_root: Path) -> None:
    expected = {"msrs": 365, "roadscene": 221, "tno": 25, "m3fd": 8, "llvip": 24, "harvard-ct-mri": 184}
    for name, count in expected.items():
        pairs = find_pairs(load_manifest(name), data_root)
        assert len(pairs) == count
        assert len({pair.key for pair in pairs}) == count
        assert [pair.key for pair in pairs] == sorted(pair.key for pair in pairs)
        assert all(pair.first.stem == pair.second.stem and pair.first != pair.second for pair in pairs)


def test_msrs_pairs_webp_with_png_by_stem(data_root: Path) -> None:
    pair = find_pairs(load_manifest("msrs"), data_root, ["train"])[0]
    assert (pair.first.suffix, pair.second.suffix) == (".webp", ".png")
    first, second = read_pair(pair)
    assert first.pixels.shape == (480, 640, 3)
    assert second.pixels.shape == (480, 640)


def test_llvip_infrared_stored_as_grey_rgb_is_accepted(data_root: Path) -> None:
    check_order(find_pairs(load_manifest("llvip"), data_root, ["test"]))


def test_swapped_real_folders_are_found(data_root: Path) -> None:
    home = data_root / "msrs" / "train"
    with pytest.raises(PairingError, match=r"colour image where a grey one .* swapped"):
        check_order(pair_folders(home / "ir", home / "vi"))


def test_splits_can_be_named_and_an_unknown_one_is_refused(data_root: Path) -> None:
    tno = load_manifest("tno")
    assert [pair.stem for pair in find_pairs(tno, data_root, ["test"])] == ["07", "08", "09", "10", "17"]
    with pytest.raises(InputError, match="no split 'val'; it has train, test"):
        find_pairs(tno, data_root, ["val"])


def test_a_missing_member_and_a_stranger_are_named(tmp_path: Path) -> None:
    for index in range(1, 26):
        save_grey(tmp_path / "tno" / "vi" / f"{index:02d}.png")
        save_grey(tmp_path / "tno" / "ir" / f"{index:02d}.png")
    assert len(find_pairs(load_manifest("tno"), tmp_path)) == 25
    save_grey(tmp_path / "tno" / "vi" / "99.png")
    save_grey(tmp_path / "tno" / "ir" / "99.png")
    with pytest.raises(PairingError, match=r"not in any split of tno: .*vi.99\.png"):
        find_pairs(load_manifest("tno"), tmp_path)
    for folder in ("vi", "ir"):
        (tmp_path / "tno" / folder / "99.png").unlink()
        (tmp_path / "tno" / folder / "07.png").unlink()
    with pytest.raises(PairingError, match="test split of tno lacks 07"):
        find_pairs(load_manifest("tno"), tmp_path)
    assert len(find_pairs(load_manifest("tno"), tmp_path, ["train"])) == 20


def test_order_of_listing_does_not_matter(folders: tuple[Path, Path]) -> None:
    """Zipping sorted listings would pair b.jpg with b.png only by luck; a missing first file would shift them all."""
    (folders[1] / "a.png").rename(folders[1] / "a.bmp")
    assert [(pair.first.stem, pair.second.stem) for pair in pair_folders(*folders)] == [(s, s) for s in "abc"]


def test_a_missing_folder(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    with pytest.raises(PairingError, match=r"nowhere: no such folder"):
        pair_folders(folders[0], tmp_path / "nowhere")


def test_an_empty_folder(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairingError, match=r"empty: the folder is empty"):
        pair_folders(folders[0], tmp_path / "empty")


def test_a_file_in_place_of_a_folder(folders: tuple[Path, Path]) -> None:
    with pytest.raises(PairingError, match="a file where a folder"):
        pair_folders(folders[0], folders[1] / "a.png")


@pytest.mark.parametrize("side", [0, 1])
def test_one_image_of_a_pair_is_missing(folders: tuple[Path, Path], side: int) -> None:
    (folders[side] / "b.png").unlink()
    with pytest.raises(PairingError) as caught:
        pair_folders(*folders)
    assert str(folders[1 - side] / "b.png") in str(caught.value)


def test_many_orphans_are_counted_not_listed(folders: tuple[Path, Path]) -> None:
    for index in range(30):
        save_grey(folders[1] / f"extra{index}.png")
    with pytest.raises(PairingError, match="and 25 more"):
        pair_folders(*folders)


def test_different_sizes_are_refused_with_both(folders: tuple[Path, Path]) -> None:
    save_grey(folders[1] / "b.png", 24, 40)
    pair = pair_folders(*folders)[1]
    for look in (read_pair, pair_size):
        with pytest.raises(PairingError, match=r"32 x 24 pixels.*40 x 24"):
            look(pair)


def test_swapped_modalities_are_found(folders: tuple[Path, Path]) -> None:
    pairs = pair_folders(folders[1], folders[0])
    with pytest.raises(PairingError) as caught:
        check_order(pairs)
    assert str(folders[0] / "a.png") in str(caught.value)
    check_order(pair_folders(*folders))


def test_a_damaged_file_is_left_to_whoever_reads_it(folders: tuple[Path, Path]) -> None:
    cut_short(folders[1] / "a.png")
    check_order(pair_folders(*folders))


def test_grey_in_both_is_no_swap(folders: tuple[Path, Path]) -> None:
    check_order(pair_folders(folders[1], folders[1]))


@pytest.mark.parametrize("look", [read_pair, pair_size])
def test_a_one_pixel_image_is_refused(tmp_path: Path, look: object) -> None:
    save_grey(tmp_path / "vi" / "a.png", 1, 1)
    save_grey(tmp_path / "ir" / "a.png", 1, 1)
    with pytest.raises(ImageError, match="1 x 1 pixels is too small"):
        look(pair_folders(tmp_path / "vi", tmp_path / "ir")[0])  # type: ignore[operator]


def _cut(path: Path) -> None:
    cut_short(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is not a picture")


def _bomb(path: Path) -> None:
    png_bomb(path)


def _float(path: Path) -> None:
    Image.fromarray(np.zeros((24, 32), dtype=np.float32)).save(path, format="TIFF")


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_cut, "damaged or cut short"),
        (_empty, "empty"),
        (_text, "not an image"),
        (_bomb, r"30000 x 30000 pixels|decompression bomb|900000000 pixels"),
        (_float, "floating-point"),
        (_loop, "a link that leads to itself"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_path(folders: tuple[Path, Path], spoil: object, complaint: str) -> None:
    pair = pair_folders(*folders)[1]
    spoil(folders[1] / "b.png")  # type: ignore[operator]
    with pytest.raises(ImageError, match=complaint) as caught:
        read_pair(pair)
    assert str(folders[1] / "b.png") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_bomb_is_a_real_png(tmp_path: Path) -> None:
    """A small one made by the same code decodes: the refusal is about size, not about a broken file."""
    path = bad_files.png_bomb(tmp_path / "small.png", 200)
    assert np.asarray(Image.open(path)).shape == (200, 200)


def test_names_with_spaces_and_other_alphabets(tmp_path: Path) -> None:
    stems = ["street 01", "улица", "街道", "straße.v2", ".hidden-ish", "é", "a b.c d"]
    for index, stem in enumerate(stems):
        save_colour(tmp_path / "sichtbare Bilder" / f"{stem}.png", seed=index)
        save_grey(tmp_path / "тепло" / f"{stem}.png", seed=index)
    pairs = pair_folders(tmp_path / "sichtbare Bilder", tmp_path / "тепло")
    assert {pair.first.name for pair in pairs} == {f"{stem}.png" for stem in stems}
    assert len({pair.key for pair in pairs}) == len(stems)
    for pair in pairs:
        assert SAFE.fullmatch(pair.key)
        read_pair(pair)


def test_the_two_unicode_forms_of_a_name_are_one_stem(tmp_path: Path) -> None:
    save_colour(tmp_path / "vi" / "caf\u00e9.png")
    save_grey(tmp_path / "ir" / "cafe\u0301.png")
    assert len(pair_folders(tmp_path / "vi", tmp_path / "ir")) == 1


def test_one_stem_in_two_splits_gives_two_keys(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_colour(tmp_path / "llvip" / split / "vi" / "0001.png")
        save_grey(tmp_path / "llvip" / split / "ir" / "0001.png")
    pairs = find_pairs(load_manifest("llvip"), tmp_path)
    assert len({pair.key for pair in pairs}) == 2


def test_a_key_does_not_depend_on_the_other_split_being_asked_for(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_colour(tmp_path / "llvip" / split / "vi" / "0001.png")
        save_grey(tmp_path / "llvip" / split / "ir" / "0001.png")
    every = {(pair.split, pair.key) for pair in find_pairs(load_manifest("llvip"), tmp_path)}
    alone = find_pairs(load_manifest("llvip"), tmp_path, ["test"])[0]
    assert ("test", alone.key) in every


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120))
def test_any_stem_gives_a_safe_key(stem: str) -> None:
    assert SAFE.fullmatch(safe_key(stem))


@given(st.sets(st.text(max_size=12), min_size=2, max_size=6))
def test_different_stems_give_different_keys(stems: set[str]) -> None:
    assert len({safe_key(stem) for stem in stems}) == len(stems)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_]{0,40}[A-Za-z0-9]", fullmatch=True))
def test_a_plain_stem_is_its_own_key(stem: str) -> None:
    assert safe_key(stem) == stem


def test_an_unreadable_folder_name_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(FusionError):
        pair_folders(tmp_path / ("x" * 40), tmp_path)


def test_the_data_root_comes_from_option_environment_or_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSIONCLI_DATA", raising=False)
    with pytest.raises(InputError, match="data: no such data folder"):
        find_root(None)
    (tmp_path / "data").mkdir()
    assert find_root(None) == Path("data")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("FUSIONCLI_DATA", os.fspath(tmp_path / "other"))
    assert find_root(None) == tmp_path / "other"
    assert find_root(tmp_path) == tmp_path
