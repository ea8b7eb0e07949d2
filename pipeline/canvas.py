"""A canvas with two sensors: what is painted has a colour for the visible camera and a warmth for the infrared one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Plane = NDArray[np.float32]
Point = tuple[float, float]
Colour = tuple[float, float, float]


class Canvas:
    """Albedo (H, W, 3), light (H, W, 3) that the lamps give, glow (H, W, 3) of what shines itself, heat (H, W); all 0..1.

    ``visible()`` is albedo x light + glow; ``infrared()`` is heat through a slightly soft lens.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.albedo = np.zeros((height, width, 3), dtype=np.float32)
        self.light = np.zeros((height, width, 3), dtype=np.float32)
        self.glow = np.zeros((height, width, 3), dtype=np.float32)
        self.heat = np.zeros((height, width), dtype=np.float32)

    def polygon(self, points: Sequence[Point], colour: Colour, heat: float, *, texture: Plane | None = None) -> None:
        """Fill a polygon; ``texture`` (H, W), around 1, modulates both colour and, more gently, heat."""
        self._paint(points, colour, heat, texture, ellipse=False)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, heat: float, *, texture: Plane | None = None
    ) -> None:
        """Fill an axis-aligned ellipse."""
        (x, y), (a, b) = centre, radii
        self._paint([(x - a, y - b), (x + a, y + b)], colour, heat, texture, ellipse=True)

    def blend(self, mask: Plane, top: int, left: int, colour: Plane, heat: Plane) -> None:
        """Blend a small image at a place: mask (h, w), colour (h, w, 3), heat (h, w); parts outside are cut."""
        rows, columns = self._window(top, left, mask.shape[0], mask.shape[1])
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
        alpha = mask[inner]
        self.albedo[rows, columns] += alpha[:, :, None] * (colour[inner] - self.albedo[rows, columns])
        self.glow[rows, columns] *= 1 - alpha[:, :, None]
        self.heat[rows, columns] += alpha * (heat[inner] - self.heat[rows, columns])

    def shine(self, centre: Point, radius: float, colour: Colour, strength: float) -> None:
        """A small source that the visible camera sees directly, with a halo around it."""
        for scale, share in ((1.0, 1.0), (3.0, 0.35), (8.0, 0.12)):
            self._add(self.glow, centre, (radius * scale, radius * scale), colour, strength * share)

    def lighten(self, centre: Point, radii: Point, colour: Colour, strength: float) -> None:
        """Light that falls on things around ``centre``."""
        self._add(self.light, centre, radii, colour, strength)

    def visible(self) -> Plane:
        """(H, W, 3) in 0..1, with a soft shoulder where light is strong, as a camera's curve has."""
        linear = self.albedo * self.light + self.glow
        return np.where(linear < 0.7, linear, 0.7 + 0.3 * np.tanh((linear - 0.7) / 0.3)).clip(0, 1).astype(np.float32)

    def infrared(self) -> Plane:
        """(H, W) in 0..1."""
        return soften(self.heat, 1.0).clip(0, 1)

    def _paint(
        self, points: Sequence[Point], colour: Colour, heat: float, texture: Plane | None, *, ellipse: bool
    ) -> None:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, top = int(np.floor(min(xs))) - 1, int(np.floor(min(ys))) - 1
        width, height = int(np.ceil(max(xs))) + 2 - left, int(np.ceil(max(ys))) + 2 - top
        rows, columns = self._window(top, left, height, width)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        mask = Image.new("L", (columns.stop - columns.start, rows.stop - rows.start))
        local = [(x - columns.start, y - rows.start) for x, y in points]
        if ellipse:
            ImageDraw.Draw(mask).ellipse(local, fill=255)
        else:
            ImageDraw.Draw(mask).polygon(local, fill=255)
        alpha: Plane = np.asarray(mask, dtype=np.float32) / np.float32(255)
        tint: Plane = np.broadcast_to(np.array(colour, dtype=np.float32), (*alpha.shape, 3))
        warmth: Plane = np.full(alpha.shape, heat, dtype=np.float32)
        if texture is not None:
            grain = texture[rows, columns]
            tint = tint * grain[:, :, None]
            warmth = warmth + np.float32(0.12) * (grain - 1)
        self.blend(alpha, rows.start, columns.start, tint, warmth)

    def _add(self, plane: Plane, centre: Point, radii: Point, colour: Colour, strength: float) -> None:
        (x, y), (a, b) = centre, (max(radii[0], 0.5), max(radii[1], 0.5))
        rows, columns = self._window(int(y - 3 * b), int(x - 3 * a), int(6 * b) + 2, int(6 * a) + 2)
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        down = np.exp(-0.5 * ((np.arange(rows.start, rows.stop) - y) / b) ** 2)
        right = np.exp(-0.5 * ((np.arange(columns.start, columns.stop) - x) / a) ** 2)
        bump = (strength * down[:, None] * right[None, :]).astype(np.float32)
        plane[rows, columns] += bump[:, :, None] * np.array(colour, dtype=np.float32)

    def _window(self, top: int, left: int, height: int, width: int) -> tuple[slice, slice]:
        rows = slice(min(max(top, 0), self.height), max(min(top + height, self.height), 0))
        return rows, slice(min(max(left, 0), self.width), max(min(left + width, self.width), 0))


def soften(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur of a plane (H, W); the border is repeated."""
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    taps /= taps.sum()
    padded = np.pad(plane, radius, mode="edge")
    down = sum(tap * padded[index : index + plane.shape[0]] for index, tap in enumerate(taps))
    return np.asarray(sum(tap * down[:, index : index + plane.shape[1]] for index, tap in enumerate(taps)))


def clouds(rng: np.random.Generator, height: int, width: int, coarsest: int, octaves: int = 4) -> Plane:
    """Smooth noise (H, W) of mean 0 and deviation 1: random grids, each twice as fine and half as strong."""
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        cells = coarsest * 2**octave
        grid = rng.standard_normal((max(2, cells * height // width + 1), cells + 1)).astype(np.float32)
        fine = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(fine, dtype=np.float32) / np.float32(2**octave)
    total -= total.mean()
    even: Plane = total / (total.std() + np.float32(1e-6))
    return even
