"""Reading image files safely: any depth and orientation in, a plain array out, one clear sentence on failure."""

from __future__ import annotations

import errno
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from pipeline.errors import ImageError
from pipeline.headers import MAX_PIXELS, ImageInfo, lossless_webp, plain_png, png_chunks

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # no other parser sees a file, whatever its name
EXIF_CHUNKS = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})  # of a PNG: where an orientation may stand
PROFILED = {2: b"GRAY", 3: b"RGB "}  # what an ICC profile calls the pixels, by their dimensions
GREY_ROWS = 64  # looked at together
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    struct.error,
)
ORIENTATION = 0x0112  # the EXIF tag, and how each of its values is set up
SET_UP = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
STRONG = 24  # levels between the channels of a pixel that JPEG's noise does not make
SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
GREY_MODES = SIXTEEN_BIT_MODES | {"1", "L", "LA", "La"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A decoded image.

    ``pixels`` is (H, W) or (H, W, 3), uint8 or uint16 (grey only); ``alpha`` is (H, W) uint8 where the file has one;
    ``profile`` is the ICC profile, where the file has one for pixels of this kind.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None = None
    profile: bytes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def peak(self) -> int:
        """The value of full brightness: 255 or 65535."""
        return 65535 if self.pixels.dtype == np.uint16 else 255

    def is_grey(self, tolerance: int = 2) -> bool:
        """Whether all channels agree to within ``tolerance`` (JPEG colour noise) on 99.9 % of the pixels."""
        allowed, coloured = 0.001 * self.size[0] * self.size[1], 0
        for spread in self._spreads():  # most images in colour say so within the first rows
            coloured += int(np.count_nonzero(spread > tolerance))
            if coloured >= allowed:
                return False
        return True

    def is_colourless(self) -> bool:
        """Whether nothing is lost in grey: it is grey, and no pixel, a red light say, is strongly coloured."""
        return self.is_grey() and all(int(spread.max()) <= STRONG for spread in self._spreads())

    def _spreads(self) -> Iterator[NDArray[np.uint8] | NDArray[np.uint16]]:
        """How far the channels of each pixel lie apart, GREY_ROWS rows at a time; nothing for one channel."""
        for top in range(0, self.size[0] if self.pixels.ndim == 3 else 0, GREY_ROWS):
            red, green, blue = np.moveaxis(self.pixels[top : top + GREY_ROWS], 2, 0)  # a fifth of max(axis=2)'s time
            yield np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)

    def eight_bit(self, *, grey: bool = False) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3) uint8, with ``grey`` (H, W); 16 bits are scaled to 0..255 and rounded."""
        if grey and self.pixels.ndim == 3:
            levels = np.rint(self.as_grey() * np.float32(255))
        elif self.pixels.dtype == np.uint16:
            levels = np.rint(self.pixels.astype(np.float32) / np.float32(257))
        else:
            return self.pixels.astype(np.uint8, copy=False)
        whole: NDArray[np.uint8] = levels.astype(np.uint8)
        return whole

    def as_rgb(self) -> NDArray[np.float32]:
        """(H, W, 3) float32 in 0..1; grey is repeated."""
        unit = self.pixels.astype(np.float32) / np.float32(self.peak)
        return np.repeat(unit[:, :, None], 3, axis=2) if unit.ndim == 2 else unit

    def as_grey(self) -> NDArray[np.float32]:
        """(H, W) float32 in 0..1; colour by ITU-R 601 weights, not rounded."""
        unit = self.pixels.astype(np.float32) / np.float32(self.peak)
        return unit if unit.ndim == 2 else unit @ np.array(LUMA, dtype=np.float32)


def probe_image(source: Path | bytes, *, name: str | None = None) -> ImageInfo:
    """Read only the header. Raises ImageError naming the file."""
    found = None if isinstance(source, Path) else lossless_webp(source) or plain_png(source)
    if found:
        return found
    with _opened(source, name) as image:
        width, height = image.size
        if _orientation(image, source, name) in (5, 6, 7, 8):
            width, height = height, width
        return ImageInfo(height=height, width=width, mode=image.mode, format=image.format or "")


def _orientation(image: Image.Image, source: Path | bytes, name: str | None) -> int:
    """EXIF orientation, 1 to 8. PIL decodes a whole PNG to look behind its pixels; the names of the chunks tell that sooner."""
    if image.format == "TIFF":
        return 1  # PIL has turned the size already
    if image.format == "PNG" and "exif" not in image.info:
        content = source.read_bytes() if isinstance(source, Path) else source
        if not EXIF_CHUNKS.intersection(png_chunks(content)):
            return 1
    with _undamaged(_label(source, name)):
        return int(image.getexif().get(ORIENTATION, 1))


def file_content(path: Path) -> bytes:
    """A file's bytes. Raises ImageError naming it, for a pipe too, which might never end."""
    with _reading(path):
        _refuse_pipe(path)
        return path.read_bytes()


def _refuse_pipe(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ImageError(f"{path}: no regular file; an image is read from a file")


def _label(source: Path | bytes, name: str | None) -> str:
    return name or (str(source) if isinstance(source, Path) else "image")


@contextmanager
def _reading(label: str | Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{label}: no such file") from error
    except IsADirectoryError as error:
        raise ImageError(f"{label}: a folder where an image file was expected") from error
    except PermissionError as error:
        raise ImageError(f"{label}: no permission to read it") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ImageError(f"{label}: a link that leads to itself") from error


def read_image(source: Path | bytes, *, name: str | None = None) -> Picture:
    """Decode one image from a path or from its bytes.

    EXIF orientation is applied; palettes and CMYK become RGB; 16-bit grey keeps its depth; alpha is kept apart.
    Raises ImageError (missing, empty, not an image, truncated, animated, over MAX_PIXELS), naming the file.
    """
    label = _label(source, name)
    with _opened(source, name) as image:
        with _undamaged(label):
            paged = has_pages(image)
        if paged:
            raise ImageError(f"{label}: an animated or multi-page image; give one frame as a single image")
        return picture_of(image, label)


def read_numbers(path: Path) -> NDArray[np.uint8] | None:
    """(H, W) what an image holds of a bit or a byte a pixel: grey levels, or places in its palette; None for any other kind.

    Raises ImageError as ``read_image`` does.
    """
    with _opened(path, None) as image, _undamaged(str(path)):
        return np.asarray(_upright(image)).astype(np.uint8) if image.mode in ("1", "L", "P") else None


def has_pages(image: Image.Image) -> bool:
    """Whether it is animated or has several pages. Behind a phone's photo (MPO) come previews and maps, no pages."""
    return getattr(image, "n_frames", 1) > 1 and image.format != "MPO"


@contextmanager
def _undamaged(label: str) -> Iterator[None]:
    """Turn what PIL raises at odd bytes into ImageError."""
    try:
        yield
    except DAMAGE as error:
        raise ImageError(f"{label}: the image is damaged or cut short ({error})") from error


@contextmanager
def _opened(source: Path | bytes, name: str | None) -> Iterator[Image.Image]:
    """Open with PIL, turning its many exceptions into ImageError and checking the size before any decoding."""
    label = _label(source, name)
    with _reading(label):
        if isinstance(source, Path):
            _refuse_pipe(source)
        file = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
    with file:
        if not file.read(1):
            raise ImageError(f"{label}: the file is empty (0 bytes)")
        file.seek(0)
        with _undamaged(label), warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            try:
                image = Image.open(file, formats=FORMATS)
            except UnidentifiedImageError as error:
                raise ImageError(
                    f"{label}: not an image this program can read; convert it to PNG, JPEG, WebP, TIFF or BMP"
                ) from error
            except Image.DecompressionBombError as error:
                raise ImageError(f"{label}: {error}") from error
        with closing(image):
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{label}: {width} x {height} pixels is over the limit of {MAX_PIXELS:,}; crop it or scale it down"
                )
            yield image


def picture_of(image: Image.Image, label: str) -> Picture:
    """A PIL image as ``read_image`` would have read it. Raises ImageError, in which it is called ``label``."""
    with _undamaged(label):
        negative = _is_negative(image)
        upright = _upright(image)
    picture = _picture(upright, label)
    if negative:
        picture = replace(picture, pixels=np.uint16(65535) - picture.pixels)
    return replace(picture, profile=_profile(image, picture.pixels.ndim))


def _upright(image: Image.Image) -> Image.Image:
    """As its EXIF orientation says. The pixels alone: PIL's own way writes all other tags anew, and fails at odd ones."""
    image.load()  # which sets up a TIFF, and takes the tag away
    turn = SET_UP.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _is_negative(image: Image.Image) -> bool:
    """Whether 0 stands for white in a grey TIFF (TIFF 6.0, tag 262) of 16 bits: PIL turns only those of 8 round."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.mode.startswith("I;16") and tags.get(262) == 0


def _profile(image: Image.Image, dimensions: int) -> bytes | None:
    """Its ICC profile (ICC.1, clause 7.2: kind of colours at byte 16, signature at 36), unless it is for other pixels."""
    profile = image.info.get("icc_profile") or b""
    return profile if profile[16:20] == PROFILED[dimensions] and profile[36:40] == b"acsp" else None


def _picture(image: Image.Image, label: str) -> Picture:
    if image.mode in SIXTEEN_BIT_MODES:
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ImageError(f"{label}: values from {low} to {high} have no agreed range; save it as 8- or 16-bit grey")
        return Picture(pixels=values.astype(np.uint16))
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return Picture(pixels=np.asarray(image.convert("L")))
    if image.mode == "F":
        raise ImageError(f"{label}: floating-point images have no agreed range; save it as 8- or 16-bit")
    if image.mode in ("1", "L", "LA", "La"):
        grey, alpha = image.convert("LA").split()
        return Picture(pixels=np.asarray(grey), alpha=np.asarray(alpha))
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        bands = np.asarray(image.convert("RGBA"))
        return Picture(pixels=np.ascontiguousarray(bands[:, :, :3]), alpha=np.ascontiguousarray(bands[:, :, 3]))
    return Picture(pixels=np.asarray(image.convert("RGB")))
