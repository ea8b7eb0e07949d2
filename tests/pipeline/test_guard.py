"""Test pictures are refused in training by their pixels, whatever they are called and however they are stored."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import guard
from pipeline.errors import InputError
from pipeline.images import Picture, read_image
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs, pair_folders


def some_picture(colour: bool = False, seed: int = 0) -> Picture:
    shape = (12, 16, 3) if colour else (12, 16)
    return Picture(pixels=np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_how_many_test_pairs_are_known() -> None:
    counts = {name: len(guard.listed_hashes(name)) for name in guard.guarded_names()}
    assert counts == {
        "msrs": 361, "roadscene": 44, "tno": 5, "llvip": 12,
        "harvard-ct-mri": 24, "harvard-pet-mri": 24, "harvard-spect-mri": 24,
    }  # fmt: skip
    assert len(guard.test_hashes()) == sum(counts.values())


@pytest.mark.parametrize("name", ["tno", "roadscene", "harvard-pet-mri"])
def test_a_shipped_list_can_be_made_again(data_root: Path, name: str) -> None:
    shipped = (resources.files("manifests") / "test_content" / f"{name}.txt").read_text(encoding="utf-8")
    assert guard.list_test_content(name, data_root) == shipped


def test_the_listed_stems_are_the_test_split() -> None:
    for name in ("tno", "roadscene"):
        assert set(guard.listed_hashes(name).values()) == load_manifest(name).splits["test"].members


def test_train_pairs_pass(data_root: Path) -> None:
    guard.refuse_test_content(find_pairs(load_manifest("tno"), data_root, ["train"]))
    guard.refuse_test_content(find_pairs(load_manifest("msrs"), data_root, ["train"]))


def test_renamed_and_reencoded_test_pairs_are_refused(data_root: Path, tmp_path: Path) -> None:
    for folder, source in (("holiday", "00004N.webp"), ("warm", "00004N.png")):
        (tmp_path / folder).mkdir()
        with Image.open(data_root / "msrs" / "test" / ("vi" if folder == "holiday" else "ir") / source) as image:
            image.convert("RGB").save(tmp_path / folder / "mine.bmp")
    pairs = pair_folders(tmp_path / "holiday", tmp_path / "warm")
    with pytest.raises(InputError, match=r"msrs 00004N \(.*mine\.bmp\)"):
        guard.refuse_test_content(pairs)
    with pytest.raises(InputError, match="msrs 00004N"):
        guard.refuse_test_content([guard.pair_hash(pairs[0])])


def test_one_test_pair_among_many_is_enough(data_root: Path, tmp_path: Path) -> None:
    for folder in ("vi", "ir"):
        (tmp_path / folder).mkdir()
        for stem in ("01", "02", "07"):
            shutil.copy(data_root / "tno" / folder / f"{stem}.png", tmp_path / folder / f"x{stem}.png")
    with pytest.raises(InputError, match=r"tno 07 \("):
        guard.refuse_test_content(pair_folders(tmp_path / "vi", tmp_path / "ir"))


def test_a_hash_depends_on_pixels_and_shape_alone(tmp_path: Path) -> None:
    picture = some_picture()
    same = Picture(pixels=np.repeat(picture.pixels[:, :, None], 3, axis=2), alpha=np.zeros((12, 16), dtype=np.uint8))
    assert guard.picture_hash(picture) == guard.picture_hash(same)
    turned = Picture(pixels=np.ascontiguousarray(picture.pixels.reshape(16, 12)))
    assert guard.picture_hash(turned) != guard.picture_hash(picture)
    one_off = picture.pixels.copy()
    one_off[3, 4] ^= 1
    assert guard.picture_hash(Picture(pixels=one_off)) != guard.picture_hash(picture)
    for suffix in (".png", ".bmp", ".tif", ".webp"):
        Image.fromarray(some_picture(colour=True).pixels).save(tmp_path / f"a{suffix}", lossless=True)
        assert guard.picture_hash(read_image(tmp_path / f"a{suffix}")) == guard.picture_hash(some_picture(colour=True))


def test_byte_order_in_memory_does_not_matter() -> None:
    deep = np.arange(192, dtype=np.uint16).reshape(12, 16)
    swapped = deep.astype(">u2")
    assert guard.picture_hash(Picture(pixels=deep)) == guard.picture_hash(Picture(pixels=swapped))


def test_the_order_of_the_two_images_matters() -> None:
    one, two = some_picture(seed=1), some_picture(seed=2)
    assert guard.content_hash(one, two) != guard.content_hash(two, one)
    assert len(guard.content_hash(one, two)) == guard.DIGITS
