"""PNG and TIFF written here, read back by decoders that are not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fusion.lossless import write_png, write_tiff


def drawn(shape: tuple[int, ...], kind: type[np.unsignedinteger[Any]]) -> NDArray[Any]:
    """Noise over the whole range: differences wrap in both directions."""
    return np.random.default_rng(sum(shape)).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (37, 53)])
@pytest.mark.parametrize(("channels", "mode"), [(None, "L"), (1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_eight_bits_as_they_were(
    tmp_path: Path, size: tuple[int, int], channels: int | None, mode: str
) -> None:
    pixels = drawn((*size, channels) if channels else size, np.uint8)
    write_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()  # the checksum of every chunk
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode and not image.info
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_a_part_of_another_array_is_written_as_it_is(tmp_path: Path) -> None:
    pixels = drawn((40, 60, 3), np.uint8)[3:30:2, 50:7:-3]
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_pillow_reads_sixteen_bits_of_grey(tmp_path: Path, suffix: str) -> None:
    pixels = drawn((21, 33), np.uint16)
    (write_png if suffix == "png" else write_tiff)(tmp_path / f"a.{suffix}", pixels)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_picture_is_written_about_as_small_as_pillow_writes_it(data_root: Path, tmp_path: Path) -> None:
    sources = sorted((data_root / "roadscene" / "vi").iterdir())[::60]
    ours = pillows = 0
    for source in sources:
        image = Image.open(source).convert("RGB")
        write_png(tmp_path / "a.png", np.asarray(image))
        ours += (tmp_path / "a.png").stat().st_size
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        pillows += len(buffer.getvalue())
    assert ours < 1.1 * pillows
