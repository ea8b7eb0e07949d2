"""Writing colour images of 16 bits a channel, which Pillow cannot: PNG and TIFF, both lossless."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT, LONG = 3, 4  # TIFF field types


def write_png(path: Path, pixels: NDArray[np.uint16]) -> None:
    """(H, W, 3) uint16 as PNG (W3C, third edition): rows predicted from the row above, most significant byte first."""
    height, width, _ = pixels.shape
    rows = pixels.astype(">u2").reshape(height, width * 3).view(np.uint8)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((height, 1), 2, dtype=np.uint8), rows - above])  # bytes wrap, as the format wants
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 1)), (b"IEND", b""))
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in chunks:
            file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))


def write_tiff(path: Path, pixels: NDArray[np.uint16]) -> None:
    """(H, W, 3) uint16 as TIFF 6.0: little-endian, one strip, not compressed."""
    height, width, _ = pixels.shape
    content: Any = pixels.astype("<u2").tobytes()
    depths_at = 8 + len(content)
    fields = (
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 3, depths_at),  # bits of each channel; three values do not fit in the field itself
        (259, SHORT, 1, 1),  # no compression
        (262, SHORT, 1, 2),  # RGB
        (273, LONG, 1, 8),  # where the strip starts
        (277, SHORT, 1, 3),  # channels
        (278, LONG, 1, height),  # rows in the strip
        (279, LONG, 1, len(content)),
        (284, SHORT, 1, 1),  # channels interleaved
    )
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, depths_at + 6))
        file.write(content)
        file.write(struct.pack("<3H", 16, 16, 16))
        file.write(struct.pack("<H", len(fields)))
        for field in fields:
            file.write(struct.pack("<HHII", *field))
        file.write(struct.pack("<I", 0))
