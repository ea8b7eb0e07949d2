"""Pairs that do not lie on one another: refused with a measurement, or brought together when that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.structure import SIDE, Shift, measure_shift
from pipeline.errors import InputError, PairingError, closest
from pipeline.images import Picture
from pipeline.pairs import SMALLEST

AS_IT_IS = "none"
KINDS = ("shift", "affine", "homography")
TOO_FAR = 0.04  # of the longer side; aligned pairs of eight data sets measure at most 0.023
MEASURABLE = 48  # pixels of the shorter side: below it chance peaks are as high as true ones
HINT = "`--align shift`, `affine` or `homography` brings them together, `--align none` fuses them as they are"
SIZES_HINT = "`--resize` scales the infrared image to it, `--align affine` or `homography` find its scale and place"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What may be done to a pair before it is fused.

    ``align``: None refuses a pair that measures as misaligned, "none" does not look, a kind of transform moves the infrared
    image. ``resize`` scales the infrared image to the visible one's size, before it is aligned.
    """

    align: str | None = None
    resize: bool = False

    def __post_init__(self) -> None:
        known = (*KINDS, AS_IT_IS)
        if self.align is not None and self.align not in known:
            raise InputError(f"--align {self.align}: expected one of {', '.join(known)}{closest(self.align, known)}")


STRICT = Fit()


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A pair of one size. ``transform`` says how the infrared image was moved and both cropped; None: not at all."""

    visible: Picture
    infrared: Picture
    transform: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the infrared image lies: ``matrix`` (3, 3) takes its pixels to the visible's; ``box`` is the overlap.

    ``box`` is left, top, right, bottom in pixels of the visible image; ``described`` is what the JSON file holds.
    """

    matrix: Tensor
    box: tuple[int, int, int, int]
    described: dict[str, Any]


def fit(visible: Picture, infrared: Picture, names: tuple[str, str], asked: Fit = STRICT) -> Fitted:
    """A pair of one size, aligned as ``asked``. Raises PairingError with the measured misalignment."""
    if asked.align in KINDS:
        placement = place(visible, infrared, names, asked)
        return Fitted(
            visible=cropped(visible, placement.box),
            infrared=moved(infrared, placement, visible.size),
            transform=placement.described,
        )
    if visible.size != infrared.size:
        if not asked.resize:
            raise PairingError(
                f"{names[0]} is {_size(visible)} pixels, {names[1]} is {_size(infrared)}: fusion needs aligned images of one "
                f"size. Scaled to it, {_measured(measure(visible, infrared), visible)}. {SIZES_HINT}"
            )
        infrared = resized(infrared, visible.size)
    if asked.align is None:
        check(visible, infrared, names)
    return Fitted(visible=visible, infrared=infrared)


def check(visible: Picture, infrared: Picture, names: tuple[str, str]) -> None:
    """Raises PairingError where two images of one size clearly show the same scene, shifted by more than TOO_FAR.

    What shares too few edges to be measured is let through: not every infrared image shows what the visible one does. So
    are images with fewer than MEASURABLE pixels a side.
    """
    if min(visible.size) < MEASURABLE:
        return
    shift = measure(visible, infrared)
    if shift.clear and shift.distance > TOO_FAR * max(visible.size):
        raise PairingError(f"{names[0]} and {names[1]} are misaligned: {_measured(shift, visible)}. {HINT}")


def measure(visible: Picture, infrared: Picture) -> Shift:
    """The shift between both images, in pixels of the visible; the infrared is scaled to its size."""
    height, width = visible.size
    scale = min(1.0, SIDE / max(height, width))
    size = max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))
    small = measure_shift(_small(visible, size), _small(infrared, size))
    return replace(small, right=small.right * width / size[1], down=small.down * height / size[0])


def place(visible: Picture, infrared: Picture, names: tuple[str, str], asked: Fit) -> Placement:
    """Estimate where the infrared image lies. Raises PairingError where no transform can be believed."""
    from fusion.registration import estimate, scaling, warp

    kind = str(asked.align)
    scaled = resized(infrared, visible.size) if asked.resize and infrared.size != visible.size else infrared
    first, second, third = (torch.from_numpy(picture.as_grey()) for picture in (visible, infrared, scaled))
    transform = estimate(first, third, kind)
    matrix = transform.matrix @ scaling(infrared.size, scaled.size)
    peak = transform.found
    near = visible.size == scaled.size and peak.distance <= TOO_FAR * max(visible.size)
    if not (peak.clear or near):
        raise PairingError(
            f"{names[0]} and {names[1]}: no {kind} brings them together, their edges agree nowhere (best peak "
            f"{peak.height:.1f} standard deviations, {peak.lead:.2f} times the next); do they show one scene?"
        )
    _, inside = warp(second[None], matrix, visible.size)
    left, top, right, bottom = box = overlap(inside.numpy())
    if min(right - left, bottom - top) < SMALLEST:
        raise PairingError(
            f"{names[0]} and {names[1]}: after alignment by {kind} they share no {SMALLEST} pixels a side"
        )
    described = {
        "kind": kind,
        "infrared_to_visible": [[float(value) for value in row] for row in matrix],
        "pixel_centres": "integers",
        "crop": {"left": left, "top": top, "width": right - left, "height": bottom - top},
        "agreement": transform.score,
        "agreement_before": transform.before,
        "visible": {"name": names[0], "width": visible.size[1], "height": visible.size[0]},
        "infrared": {"name": names[1], "width": infrared.size[1], "height": infrared.size[0]},
    }
    return Placement(matrix=matrix, box=box, described=described)


def moved(infrared: Picture, placement: Placement, size: tuple[int, int]) -> Picture:
    """The infrared image drawn where it lies on a visible one of ``size``, cropped to the overlap, its depth kept."""
    from fusion.registration import warp

    drawn, _ = warp(torch.from_numpy(infrared.as_grey())[None], placement.matrix, size)
    return cropped(_of_depth(drawn[0].numpy(), infrared), placement.box)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scale a grey image to ``size`` (height, width), its depth kept."""
    image = Image.fromarray(picture.as_grey()).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return _of_depth(np.asarray(image), picture)


def cropped(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The part of an image inside left, top, right, bottom."""
    left, top, right, bottom = box
    alpha = None if picture.alpha is None else np.ascontiguousarray(picture.alpha[top:bottom, left:right])
    return replace(picture, pixels=picture.pixels[top:bottom, left:right].copy(), alpha=alpha)


def overlap(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """A large rectangle (left, top, right, bottom) within a convex region: the side with most outside it is trimmed."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    while left < right and top < bottom:
        outside = {
            "left": 1 - inside[top:bottom, left].mean(),
            "top": 1 - inside[top, left:right].mean(),
            "right": 1 - inside[top:bottom, right - 1].mean(),
            "bottom": 1 - inside[bottom - 1, left:right].mean(),
        }
        worst = max(outside, key=lambda side: float(outside[side]))
        if outside[worst] == 0:
            break
        left, top = left + (worst == "left"), top + (worst == "top")
        right, bottom = right - (worst == "right"), bottom - (worst == "bottom")
    return left, top, right, bottom


def _of_depth(grey: NDArray[np.float32], like: Picture) -> Picture:
    """Floats 0..1 as pixels of the depth of another picture."""
    whole = np.rint(grey.clip(0, 1) * like.peak)
    return Picture(pixels=whole.astype(np.uint16) if like.peak == 65535 else whole.astype(np.uint8))


def _small(picture: Picture, size: tuple[int, int]) -> NDArray[np.float32]:
    pixels = picture.pixels
    eight = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    image, times = Image.fromarray(eight), picture.size[0] // size[0]
    if (times * size[0], times * size[1]) == picture.size:
        image = image.reduce(times)  # what resize does, in a third of the time
    else:
        image = image.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _measured(shift: Shift, visible: Picture) -> str:
    if not shift.clear:
        return "they share too few edges to say how they lie"
    if shift.distance <= TOO_FAR * max(visible.size):
        return "the infrared image lies on the visible one"
    across = f"{abs(shift.right):.0f} pixels {'right' if shift.right > 0 else 'left'}"
    along = f"{abs(shift.down):.0f} {'down' if shift.down > 0 else 'up'}"
    share = shift.distance / max(visible.size)
    return f"the infrared image lies about {across} and {along} of the visible one ({share:.1%} of the longer side)"


def _size(picture: Picture) -> str:
    return f"{picture.size[1]} x {picture.size[0]}"
