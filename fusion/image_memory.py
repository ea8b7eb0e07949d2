"""Fused images that a benchmark keeps: the same weights and code never fuse the same pixels twice."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fusion.methods import Method, NetworkMethod, Pixels
from pipeline.atomic import atomic_path, write_text
from pipeline.errors import InputError
from pipeline.images import Picture, read_image
from pipeline.pairs import Pair

MARK = "made-by.json"  # what made the images of a folder
MADE_OF = "Sources"  # the text in a kept PNG: SHA-256 over the pixels of both its sources


def fuse_once(method: Method, pair: Pair, visible: Picture, infrared: Picture, folder: Path) -> Pixels | None:
    """Fuse, or read what the same weights made of the same pixels. Only networks keep images: the others are quick."""
    if not isinstance(method, NetworkMethod):
        return method.fuse(pair, visible, infrared)
    place = folder / method.card.name
    mark = place / MARK
    if not _made_by(mark, method):
        place.mkdir(parents=True, exist_ok=True)
        old = list(place.glob("*.png"))
        if old and not mark.is_file():
            raise InputError(f"{place}: holds images that a benchmark has not made; move them, or give another --out")
        for path in old:
            path.unlink()
        write_text(mark, method.identity)
    path = place / f"{pair.key}.png"
    made_of = hashlib.sha256(visible.pixels.tobytes() + infrared.pixels.tobytes()).hexdigest()
    if path.is_file() and _made_of(path) == made_of:
        return read_image(path).eight_bit()
    fused = method.fuse(pair, visible, infrared)
    if fused is not None:
        told = PngInfo()
        told.add_text(MADE_OF, made_of)
        with atomic_path(path) as temporary:
            Image.fromarray(fused).save(temporary, compress_level=1, pnginfo=told)
    return fused


def is_kept(method: Method, pair: Pair, folder: Path) -> bool:
    """Whether the image that ``fuse_once`` keeps of a pair is there; true of a method that it keeps none of."""
    if not isinstance(method, NetworkMethod):
        return True
    place = folder / method.card.name
    return (place / f"{pair.key}.png").is_file() and _made_by(place / MARK, method)


def _made_by(mark: Path, method: NetworkMethod) -> bool:
    return mark.is_file() and mark.read_text(encoding="utf-8", errors="replace") == method.identity


def _made_of(path: Path) -> str | None:
    """The digest of the sources' pixels that a kept image was fused from."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return image.info.get(MADE_OF)
    except (OSError, SyntaxError, ValueError):  # damaged: fused again
        return None
