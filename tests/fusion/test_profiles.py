"""The ICC profile of the visible image goes with the fused one: without it a viewer would show other colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fresh_network import fresh_weights
from fusion.alignment import cropped
from fusion.fused_image import Output
from fusion.inference import Fuser, fuse_file
from fusion.lossless import write_tiff
from pipeline.images import read_image


def profile(kind: bytes, size: int = 0) -> bytes:
    """A real profile, for RGB or (by its header alone) GRAY, with bytes behind it that no other one has."""
    real = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return real[:16] + kind + real[20:] + bytes(range(1, 1 + size))


@pytest.fixture(scope="module")
def fuser(tmp_path_factory: pytest.TempPathFactory) -> Fuser:
    return Fuser.from_pretrained(fresh_weights(tmp_path_factory.mktemp("weights")))


def saved(path: Path, mode: str, icc: bytes | None, seed: int = 1) -> Path:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze()).save(path, icc_profile=icc)
    return path


def carried(path: Path) -> bytes | None:
    with Image.open(path) as image:
        found: bytes | None = image.info.get("icc_profile")
        return found


@pytest.mark.parametrize("odd", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_it_is_in_every_format_that_holds_one(fuser: Fuser, tmp_path: Path, mode: str, suffix: str, odd: int) -> None:
    icc = profile(b"RGB " if mode == "RGB" else b"GRAY", odd)
    visible = saved(tmp_path / "v.png", mode, icc)
    infrared = saved(tmp_path / "i.png", "L", profile(b"GRAY", 9), 2)
    fuse_file(fuser, visible, infrared, tmp_path / f"f.{suffix}")
    grey_webp = (mode, suffix) == ("L", "webp")  # there is no such thing: it is written in colour
    assert carried(tmp_path / f"f.{suffix}") == (None if grey_webp else icc)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("odd", [3, 4])
def test_it_is_in_files_of_sixteen_bits(fuser: Fuser, tmp_path: Path, mode: str, suffix: str, odd: int) -> None:
    icc = profile(b"RGB " if mode == "RGB" else b"GRAY", odd)
    visible, infrared = saved(tmp_path / "v.png", mode, icc), saved(tmp_path / "i.png", "L", None, 2)
    fuse_file(fuser, visible, infrared, tmp_path / f"f.{suffix}", Output(sixteen_bit=True))
    assert carried(tmp_path / f"f.{suffix}") == icc
    with Image.open(tmp_path / f"f.{suffix}") as image:
        image.load()  # with the profile before or behind them the pixels are where they are said to be


def test_pixels_of_a_tiff_with_a_profile_are_as_without(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (5, 7), dtype=np.uint16)
    write_tiff(tmp_path / "a.tiff", pixels, profile(b"GRAY", 1))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.tiff")), pixels)


def test_a_profile_for_other_pixels_is_left_out(fuser: Fuser, tmp_path: Path) -> None:
    infrared = saved(tmp_path / "i.png", "L", None, 2)
    for mode, kind in (("RGB", b"GRAY"), ("RGB", b"CMYK"), ("L", b"RGB ")):
        fuse_file(fuser, saved(tmp_path / "v.png", mode, profile(kind)), infrared, tmp_path / "f.png")
        assert carried(tmp_path / "f.png") is None, (mode, kind)
    saved(tmp_path / "v.png", "RGB", b"no profile at all")
    fuse_file(fuser, tmp_path / "v.png", infrared, tmp_path / "f.png")
    assert carried(tmp_path / "f.png") is None
    saved(tmp_path / "v.png", "RGB", profile(b"RGB "))
    fuse_file(fuser, tmp_path / "v.png", infrared, tmp_path / "f.png", Output(grey=True))
    assert carried(tmp_path / "f.png") is None, "a grey output of a coloured image"


def test_images_of_pillow_keep_it(fuser: Fuser, tmp_path: Path) -> None:
    icc = profile(b"RGB ", 5)
    visible, infrared = saved(tmp_path / "v.png", "RGB", icc), saved(tmp_path / "i.png", "L", None, 2)
    with Image.open(visible) as first, Image.open(infrared) as second:
        assert fuser(first, second).info["icc_profile"] == icc
        first.info.pop("icc_profile")
        assert "icc_profile" not in fuser(first, second).info


def test_cropping_to_the_overlap_keeps_it(tmp_path: Path) -> None:
    icc = profile(b"RGB ")
    part = cropped(read_image(saved(tmp_path / "v.png", "RGB", icc)), (2, 3, 12, 13))
    assert part.profile == icc and part.size == (10, 10)
