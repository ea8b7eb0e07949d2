"""Files that make trouble, built by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def save_grey(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    """A grey image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_colour(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    """A colour image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def png_bomb(path: Path, side: int = 30_000) -> Path:
    """A valid PNG of ``side`` x ``side`` zero pixels in about a megabyte: 900 million pixels once decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9, wbits=-15)  # a fully flushed block may be repeated: no need to compress all of it
    block = packer.compress(bytes(1 + side) * 100) + packer.flush(zlib.Z_FULL_FLUSH)
    total = (1 + side) * side
    adler = ((total % 65521) << 16) | 1  # of that many zero bytes
    body = b"\x78\xda" + block * (side // 100) + b"\x03\x00" + struct.pack(">I", adler)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


def cut_short(path: Path) -> Path:
    """Drop the second half of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path
