"""What an image file's header says, of the kinds that are many and whose headers are quickly read without decoding."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAX_PIXELS = 150_000_000  # a 12k x 12k scan passes; a decompression bomb is refused from its header alone
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_MODES = {(8, 0): "L", (16, 0): "I;16", (8, 2): "RGB", (8, 4): "LA", (8, 6): "RGBA"}  # by depth and kind of colour


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What an image file's header says; height and width after its EXIF orientation."""

    height: int
    width: int
    mode: str
    format: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


def lossless_webp(content: bytes) -> ImageInfo | None:
    """The header of a whole lossless WebP without extensions (RFC 9649); PIL would make a decoder and its canvases."""
    whole = content[:4] == b"RIFF" and len(content) >= 8 + int.from_bytes(content[4:8], "little") > 32
    if not whole or content[8:16] != b"WEBPVP8L" or content[20] != 0x2F:
        return None
    bits = int.from_bytes(content[21:25], "little")
    width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if width * height > MAX_PIXELS:
        return None
    return ImageInfo(height=height, width=width, mode="RGBA" if bits >> 28 & 1 else "RGB", format="WEBP")


def plain_png(content: bytes) -> ImageInfo | None:
    """The header of a whole PNG that holds pixels and nothing else; opening it with PIL takes ten times as long."""
    names = list(png_chunks(content)) if content.startswith(PNG_START) else []
    if set(names) != {b"IHDR", b"IDAT", b"IEND"} or names[-1] != b"IEND":
        return None
    width, height, depth, colours = struct.unpack_from(">IIBB", content, 16)
    sound = zlib.crc32(content[12:29]) == int.from_bytes(content[29:33], "big") and 0 < width * height <= MAX_PIXELS
    mode = PNG_MODES.get((depth, colours))
    return ImageInfo(height=height, width=width, mode=mode, format="PNG") if sound and mode else None


def png_chunks(content: bytes) -> Iterator[bytes]:
    """The names of a PNG's chunks, in order."""
    place = 8  # behind the signature
    while place + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        yield name
        place += size + 12
