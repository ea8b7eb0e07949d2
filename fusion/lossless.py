"""Writing PNG and TIFF where Pillow is slow (PNG: seven times) or cannot (16 bits a channel in colour). Both are lossless."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SHORT, LONG, UNDEFINED = 3, 4, 7  # TIFF field types
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's, by channels: grey, grey and alpha, colour, colour and alpha
ABOVE = 2  # PNG's filter: a row less the row above; alone it makes files as small as the best of three row by row
LEVEL = 2  # ISA-L's, of 0 to 3


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16], profile: bytes | None = None) -> None:
    """(H, W), or (H, W, C) with C of 1 to 4 (2 and 4: alpha last), uint8 or uint16, as PNG (W3C, third edition).

    ``profile``: an ICC profile to go with it.
    """
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = pixels.astype(pixels.dtype.newbyteorder(">"), copy=False).reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0], filtered[0, 1:] = ABOVE, rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])  # bytes wrap, as the format wants
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", isal_zlib.compress(filtered, LEVEL)), (b"IEND", b"")]
    if profile:
        chunks.insert(1, (b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))  # a name; 0: deflated
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks:
            file.write(struct.pack(">I", len(content)) + kind)
            file.write(content)
            file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


def write_tiff(path: Path, pixels: NDArray[np.uint16], profile: bytes | None = None) -> None:
    """(H, W) or (H, W, C) uint16, C of 3 or 4 (4: alpha last), as TIFF 6.0: little-endian, one strip, not compressed.

    ``profile``: an ICC profile to go with it.
    """
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    coloured, alpha = channels > 1, channels == 4
    content: Any = pixels.astype("<u2").tobytes()
    depths_at = 8 + len(content)
    profile = profile or b""
    fields = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, channels, depths_at) if coloured else (258, SHORT, 1, 16),  # more do not fit in the field itself
        (259, SHORT, 1, 1),  # no compression
        (262, SHORT, 1, 2 if coloured else 1),  # RGB, or grey with 0 for black
        (273, LONG, 1, 8),  # where the strip starts
        (277, SHORT, 1, channels),
        (278, LONG, 1, height),  # rows in the strip
        (279, LONG, 1, len(content)),
        (284, SHORT, 1, 1),  # channels interleaved
    ]
    if alpha:
        fields.append((338, SHORT, 1, 2))  # the last channel is an opacity that the colours are not multiplied by
    if profile:
        fields.append((34675, UNDEFINED, len(profile), depths_at + 8))
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, depths_at + 8 + len(profile) + len(profile) % 2))
        file.write(content)
        file.write(struct.pack("<4H", 16, 16, 16, 16))
        file.write(profile + bytes(len(profile) % 2))  # what follows begins at an even place
        file.write(struct.pack("<H", len(fields)))
        for field in fields:
            file.write(struct.pack("<HHII", *field))
        file.write(struct.pack("<I", 0))
