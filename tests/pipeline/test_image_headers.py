"""What a header says, without decoding: the short ways give what PIL gives. And what counts as grey."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bad_files import png_bomb, save_colour, save_grey
from fusion.lossless import write_tiff
from pipeline.errors import ImageError
from pipeline.images import Picture, probe_image, read_image
from pipeline.pairs import Pair, pair_size, read_pair, safe_key


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, mode: str) -> Image.Image:
    channels = len(mode)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (8, 300), (301, 9)])
@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("WEBP", {"quality": 40}), ("PNG", {})])
def test_the_header_gives_what_pil_gives(
    mode: str, size: tuple[int, int], kind: str, options: dict[str, object]
) -> None:
    content = encoded(noise(*size, mode), kind, **options)
    with Image.open(io.BytesIO(content)) as image:
        expected = (image.height, image.width, image.mode, image.format)
    found = probe_image(content)
    assert (found.height, found.width, found.mode, found.format) == expected


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
def test_an_image_that_lies_on_its_side_is_set_up(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(noise(20, 33, "RGB"), kind, exif=exif)
    assert (probe_image(content).height, probe_image(content).width) == (33, 20) == read_image(content).size


def test_an_orientation_in_a_text_chunk_of_a_png_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = exif.tobytes()
    notes = PngInfo()
    notes.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise(20, 33, "RGB"), "PNG", pnginfo=notes))
    for source in (path, path.read_bytes()):
        assert (probe_image(source).height, probe_image(source).width) == (33, 20)


def test_a_lossless_webp_that_is_cut_short_is_no_image() -> None:
    content = encoded(noise(64, 64, "RGB"), "WEBP", lossless=True)
    for length in (20, 24, 32, len(content) - 1):
        with pytest.raises(ImageError, match="a.webp"):
            probe_image(content[:length], name="a.webp")


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "P", "LA"])
def test_every_kind_of_grey_png_gives_what_pil_gives(mode: str) -> None:
    image = Image.new("I;16", (7, 5)) if mode == "I;16" else noise(5, 7, "L").convert(mode)
    content = encoded(image, "PNG")
    with Image.open(io.BytesIO(content)) as opened:
        assert probe_image(content).mode == opened.mode
    assert (probe_image(content).height, probe_image(content).width) == (5, 7)


@pytest.mark.parametrize("place", [1, 14, 19, 24, 30])
def test_a_png_whose_header_is_damaged_is_no_image(place: int) -> None:
    content = bytearray(encoded(noise(64, 64, "L"), "PNG"))
    content[place] ^= 0x40
    with pytest.raises(ImageError, match="a.png"):
        probe_image(bytes(content), name="a.png")


def test_a_format_that_is_not_offered_is_refused_whatever_the_name() -> None:
    with pytest.raises(ImageError, match="not an image this program can read"):
        read_image(encoded(noise(9, 9, "L"), "PPM"), name="a.png")


@pytest.mark.parametrize("place", ["top", "bottom", "all over"])
def test_an_image_is_grey_when_fewer_than_a_thousandth_of_its_pixels_are_coloured(place: str) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(3, 250, (200, 100, 1), dtype=np.uint8), 3, axis=2)
    grey[..., 2] += 2  # the noise of a JPEG
    for coloured, expected in ((19, True), (20, False), (5000, False)):
        rows, columns = np.divmod(np.arange(coloured), 100)
        pixels = grey.copy()
        if place == "all over":
            rows, columns = np.divmod(np.arange(coloured) * (20000 // coloured), 100)
        pixels[199 - rows if place == "bottom" else rows, columns, 0] -= 3
        assert Picture(pixels=pixels).is_grey() == expected


@pytest.mark.parametrize("values", [(-776, 816), (0, 70_000)])
def test_whole_numbers_outside_16_bits_have_no_agreed_range(tmp_path: Path, values: tuple[int, int]) -> None:
    """Hounsfield units of a CT, say: cutting them off at black would be a picture of something else."""
    Image.fromarray(np.linspace(*values, 400).astype(np.int32).reshape(20, 20)).save(tmp_path / "ct.tif")
    with pytest.raises(ImageError, match=rf"ct.tif: values from {values[0]} to {values[1]}"):
        read_image(tmp_path / "ct.tif")
    Image.fromarray(np.arange(400, dtype=np.int32).reshape(20, 20) * 160).save(tmp_path / "fits.tif")
    assert read_image(tmp_path / "fits.tif").pixels.max() == 399 * 160


def test_a_transparent_grey_level_is_alpha(tmp_path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png", transparency=5)
    found = read_image(tmp_path / "a.png")
    assert found.alpha is not None
    assert found.pixels.shape == (8, 8) and list(found.alpha.ravel()[4:7]) == [255, 0, 255]


def test_an_orientation_beside_a_tag_of_a_wrong_type_is_followed() -> None:
    """Cameras write such tags; writing them anew, as Pillow does to turn an image, ends in an error of its own."""
    entry = struct.pack("<HHI", 0x0112, 3, 1) + struct.pack("<HH", 6, 0)
    odd = struct.pack("<HHI", 0x010F, 5, 1) + struct.pack("<I", 26)  # the maker's name as a fraction
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + odd + entry + bytes(60)
    content = encoded(noise(20, 33, "RGB"), "JPEG", exif=exif)
    assert read_image(content).size == (33, 20)


def test_over_a_hundred_and_fifty_million_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    fits, over = png_bomb(tmp_path / "fits.png", 12_200), png_bomb(tmp_path / "over.png", 12_300)
    assert probe_image(fits).width == probe_image(fits.read_bytes()).width == 12_200
    for source in (over, over.read_bytes()):
        with pytest.raises(ImageError, match=r"12300 x 12300 pixels is over the limit of 150,000,000"):
            probe_image(source)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_phones_photo_with_a_second_picture_behind_it_is_its_first(tmp_path: Path, orientation: int) -> None:
    """Phones put a preview, a depth or a brightness map behind the photo (CIPA DC-007); it is no animation."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    photo, behind = Image.fromarray(pixels), Image.fromarray(pixels[::2, ::2].copy())
    tags = Image.Exif()
    tags[0x0112] = orientation
    photo.save(tmp_path / "plain.jpg", exif=tags)
    photo.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[behind], exif=tags)
    with Image.open(tmp_path / "phone.jpg") as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    expected, found = (read_image(tmp_path / name) for name in ("plain.jpg", "phone.jpg"))
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    info = probe_image(tmp_path / "phone.jpg")
    assert (info.height, info.width) == found.size == ((24, 32) if orientation == 1 else (32, 24))


def test_eight_pixels_a_side_are_the_least(tmp_path: Path) -> None:
    for name, size in (("fits", (8, 9)), ("thin", (9, 7)), ("flat", (7, 9))):
        pair = Pair(
            key=name,
            stem=name,
            split="train",
            first=save_colour(tmp_path / f"vi/{name}.png", *size),
            second=save_grey(tmp_path / f"ir/{name}.png", *size),
        )
        if name == "fits":
            assert pair_size(pair) == read_pair(pair)[0].size == size
            continue
        for look in (pair_size, read_pair):
            with pytest.raises(ImageError, match=f"{size[1]} x {size[0]} pixels is too small; 8 x 8 is the least"):
                look(pair)


def test_a_key_has_at_most_seventy_two_letters() -> None:
    assert safe_key("b" * 72) == "b" * 72
    for stem in ("b" * 73, "b" * 240, "ä" * 240, "a b" * 50):
        assert len(safe_key(stem)) <= 72
    assert len(safe_key("b" * 73)) == 72


def test_a_negative_of_sixteen_bits_is_turned_round(tmp_path: Path) -> None:
    """TIFF 6.0, tag 262: in a grey image 0 stands for white where it is 0, for black where it is 1."""
    values = np.arange(70, dtype=np.uint16).reshape(7, 10) * 900
    write_tiff(tmp_path / "a.tif", values)
    content = (tmp_path / "a.tif").read_bytes()
    black, white = (struct.pack("<HHII", 262, 3, 1, value) for value in (1, 0))
    assert content.count(black) == 1
    (tmp_path / "b.tif").write_bytes(content.replace(black, white))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, values)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels, 65535 - values)


def test_eight_bits_of_sixteen_are_the_nearest_level_everywhere() -> None:
    """Of 257 sixteen-bit values the middle one is a level; training, fusing and scoring must agree on the others."""
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    levels = Picture(pixels=deep).eight_bit()
    assert np.array_equal(levels.ravel(), (np.arange(65536) + 128) // 257)
    assert np.array_equal(Picture(pixels=deep).eight_bit(grey=True), levels)
    colour = np.array([[[10, 20, 30], [255, 255, 255]]], dtype=np.uint8)
    assert Picture(pixels=colour).eight_bit() is colour or np.array_equal(Picture(pixels=colour).eight_bit(), colour)
    assert Picture(pixels=colour).eight_bit(grey=True).tolist() == [[18, 255]]  # 0.299 10 + 0.587 20 + 0.114 30 = 18.15
