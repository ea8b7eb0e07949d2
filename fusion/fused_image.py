"""Fused images as files: format, depth, transparency, colour profile, and the transform beside them."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.arrays import to_unit
from fusion.lossless import write_png, write_tiff
from pipeline.atomic import atomic_path, write_text
from pipeline.errors import InputError
from pipeline.images import LUMA, Picture

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
WITH_ALPHA = frozenset({"PNG", "WEBP", "TIFF"})
LONGEST = {"JPEG": 65500, "WEBP": 16383}  # pixels a side that a format holds, where that is few
DEEP_WRITERS: dict[str, Callable[[Path, NDArray[np.uint16], bytes | None], None]] = {
    "PNG": write_png,
    "TIFF": write_tiff,
}
ENCODING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True, "exact": True},  # as they are, colours of what is transparent too
}


@dataclass(frozen=True, kw_only=True)
class Output:
    """How fused images are written. ``grey``: luma only; ``sixteen_bit``: PNG or TIFF, 16 bits a channel."""

    grey: bool = False
    sixteen_bit: bool = False


EIGHT_BIT_COLOUR = Output()


def transform_of(out: Path) -> Path:
    """Where the transform of a fused image goes: a.png.transform.json, for an a.jpg beside it has its own."""
    return out.with_name(f"{out.name}.transform.json")


def save_transform(out: Path, transform: dict[str, Any] | None) -> None:
    """Write <out>.transform.json beside a fused image; one of an earlier run is taken away where there is none now."""
    path = transform_of(out)
    if transform is None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # a name that no file has
                raise
    else:
        write_text(path, json.dumps(transform, indent=2, ensure_ascii=False) + "\n")


def check_output(out: Path, output: Output, sources: Sequence[Path] = ()) -> None:
    """Raises InputError when ``out`` cannot be an output file: format, depth, folder, or it is one of ``sources``."""
    if out.is_dir():
        raise InputError(f"{out}: a folder; give a file name such as {out / 'fused.png'}")
    kind = SUFFIXES.get(out.suffix.lower())
    if not out.suffix:
        raise InputError(f"{out}: its format is not known; name a file such as {out}.png")
    if kind is None:
        raise InputError(f"{out}: unknown format {out.suffix!r}; use one of {', '.join(SUFFIXES)}")
    if output.sixteen_bit and kind not in DEEP_WRITERS:
        raise InputError(f"{out}: {kind} holds no 16-bit images; use .png or .tiff")
    if not out.parent.is_dir():
        if out.parent.exists():
            raise InputError(f"{out}: cannot be written, {out.parent} is not a folder")
        raise InputError(f"{out}: the folder {out.parent} does not exist")
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise InputError(f"{out}: one of the images to be fused; give another name with --out")


def save_fused(
    out: Path,
    fused: NDArray[np.float32] | NDArray[np.uint8],
    visible: Picture,
    output: Output = EIGHT_BIT_COLOUR,
) -> None:
    """Write (H, W, 3), floats 0..1 or uint8: coloured as the visible is, its alpha and ICC profile kept where the format can.

    Raises InputError for more pixels a side than the format holds.
    """
    kind = SUFFIXES[out.suffix.lower()]
    if max(fused.shape[:2]) > LONGEST.get(kind, max(fused.shape[:2])):
        size = f"{fused.shape[1]} x {fused.shape[0]}"
        raise InputError(f"{out}: {kind} holds {LONGEST[kind]} pixels a side, and this has {size}; use .png or .tiff")
    grey = output.grey or visible.is_colourless()
    unit = to_unit(fused) if grey or output.sixteen_bit else fused
    values = unit @ np.array(LUMA, dtype=np.float32) if grey else unit
    profile = visible.profile if values.ndim == visible.pixels.ndim else None
    with atomic_path(out) as temporary:
        if output.sixteen_bit:
            deep = np.rint(values * 65535).astype(np.uint16)
            if visible.alpha is not None and (
                kind == "PNG" or deep.ndim == 3
            ):  # Pillow reads no grey TIFF that has one
                deep = np.dstack([deep, visible.alpha * np.uint16(257)])  # 255 becomes 65535
            DEEP_WRITERS[kind](temporary, deep, profile)
        else:
            encode(temporary, Picture(pixels=_levels(values), alpha=visible.alpha, profile=profile), kind)


def encode(path: Path, picture: Picture, kind: str) -> None:
    """Write 8-bit pixels in one of Pillow's formats, with alpha and ICC profile where that can hold them."""
    pixels = picture.pixels.astype(np.uint8, copy=False)
    if picture.alpha is not None and kind in WITH_ALPHA:
        pixels = np.dstack([pixels, picture.alpha])
    if kind == "PNG":
        write_png(path, pixels, picture.profile)
    else:
        profile = None if kind == "WEBP" and picture.pixels.ndim == 2 else picture.profile  # WebP makes grey RGB
        Image.fromarray(pixels).save(path, format=kind, icc_profile=profile, **ENCODING.get(kind, {}))


def _levels(values: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Floats 0..1 as the nearest of 256 levels; what is uint8 as it is."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    levels: NDArray[np.uint8] = np.rint(values * np.float32(255)).astype(np.uint8)
    return levels
