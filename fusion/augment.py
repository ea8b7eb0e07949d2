"""Crops, flips and drawn changes of a training pair: a pure function of (seed, visit, pair_id)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.order import digest_number
from fusion.recipe import Recipe
from fusion.recipe_limits import SMALLEST_CROP

DARKEST = (0.1, 0.25)  # factors of visible and infrared: a moonless street, a scene of nearly even temperature

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A crop: visible (3, h, w) and infrared (1, h, w), float32 in 0..1."""

    visible: Floats
    infrared: Floats


def generator(seed: int, visit: int, pair_id: str) -> np.random.Generator:
    """The random numbers of one visit of one pair."""
    return np.random.Generator(np.random.PCG64(digest_number("augment", seed, visit, pair_id)))


def draw_crop(visible: Bytes, infrared: Bytes, recipe: Recipe, random: np.random.Generator) -> Crop:
    """Cut one square crop of ``recipe.crop`` pixels out of visible (H, W[, 3]) and infrared (H, W), and flip it.

    An image smaller than the crop is mirrored at its border. Every number is drawn whether it is used or not, so that
    a switch of the recipe does not move the other draws.
    """
    zoom, top, left, dark, dim = (float(value) for value in random.random(5))
    across, down, turn, transpose = (int(value) for value in random.integers(0, 2, 4))
    side = round(recipe.crop * (1 + recipe.zoom) ** (2 * zoom - 1)) if recipe.zoom else recipe.crop
    planes = []
    for image in (visible, infrared):
        whole = _at_least(image, side)
        y, x = int(top * (whole.shape[0] - side + 1)), int(left * (whole.shape[1] - side + 1))
        part = _resized(whole[y : y + side, x : x + side], recipe.crop)
        if recipe.flips:
            part = part[:: -1 if down else 1, :: -1 if across else 1]
        if recipe.turns and turn:
            part = np.rot90(part, 1 + 2 * transpose)
        planes.append(part)
    first, second = as_planes(planes[0], 3), as_planes(planes[1], 1)
    if dark < recipe.darken_visible:
        first = first * np.float32(DARKEST[0] + (1 - DARKEST[0]) * dark / recipe.darken_visible)
    if dim < recipe.darken_infrared:
        second = second * np.float32(DARKEST[1] + (1 - DARKEST[1]) * dim / recipe.darken_infrared)
    return Crop(visible=first, infrared=second)


def centre_crop(visible: Bytes, infrared: Bytes, side: int) -> Crop:
    """The middle of a pair, at most ``side`` pixels high and wide; where that is too small for the loss, mirrored."""
    height, width = infrared.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    cut = np.s_[top : top + side, left : left + side]
    first, second = (_at_least(image[cut], SMALLEST_CROP) for image in (visible, infrared))
    return Crop(visible=as_planes(first, 3), infrared=as_planes(second, 1))


def as_planes(image: Bytes, channels: int) -> Floats:
    """(channels, h, w) float32 in 0..1 of an (h, w) or (h, w, 3) image; grey is repeated."""
    unit = image.astype(np.float32) / np.float32(255)
    planes = unit[None] if unit.ndim == 2 else unit.transpose(2, 0, 1)
    return np.array(np.broadcast_to(planes, (channels, *planes.shape[1:])), order="C")


def _at_least(image: Bytes, side: int) -> Bytes:
    missing = [max(0, side - length) for length in image.shape[:2]]
    if not any(missing):
        return image
    return np.pad(image, [(0, missing[0]), (0, missing[1])] + [(0, 0)] * (image.ndim - 2), mode="symmetric")


def _resized(image: Bytes, side: int) -> Bytes:
    if image.shape[0] == side:
        return image
    small = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(small)
