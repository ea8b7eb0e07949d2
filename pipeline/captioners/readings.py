"""What can be read off an image's pixels about its quality. All figures in 0..1 of full brightness unless said otherwise.

Global figures come from some thousand pixels, local ones (noise, sharpness, stripes) from bands of whole rows spread over
the image: reading an image must cost a small part of decoding it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.images import LUMA, Picture

Grey = NDArray[np.float32]
SAMPLES = 3000  # pixels, about, on a grid over the image
BANDS, BAND_ROWS = 6, 11
CORE_ROWS = 6  # of a band: one row of blocks and its neighbour; every third one tells enough of steps along the rows
WIDE = 400  # from this width on grain and stripes are looked for in the middle half
BLOCK = 5
BLOCK_SHARE = np.full(BLOCK, 1 / BLOCK, dtype=np.float32)
REACH = 8  # pixels over which a step is looked at for its sharpness
ALONG = np.arange(REACH + 1)[:, None]
FEWEST, STEPS = 24, 300  # strong ones: fewer say nothing, and of more only so many are followed at most
WEIGHTS = np.array(LUMA, dtype=np.float32)  # of the channels


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Figures of one image."""

    mean: float  # of the subject
    dark: float  # 2nd percentile
    bright: float  # 98th percentile
    saturated: float  # share of pixels at full brightness
    noise: float  # standard deviation of the grain, in levels of 255
    sharpness: float  # how much of a strong step happens within two pixels, in the worse direction; 1: a clean edge
    stripes: float  # amplitude of column or row offsets, in levels of 255

    @property
    def floor(self) -> float:
        """``dark`` without what grain and stripes add to the range."""
        return self.mean - self._without_grain(self.mean - self.dark)

    @property
    def ceiling(self) -> float:
        """``bright`` without what grain and stripes add to the range."""
        return self.mean + self._without_grain(self.bright - self.mean)

    @property
    def contrast(self) -> float:
        """Spread of the greys against the brightest: 1 for an image with true black, small under haze."""
        return (self.ceiling - self.floor) / max(self.ceiling, 0.1)

    def _without_grain(self, distance: float) -> float:
        """Independent spreads add in quadrature; the 2nd percentile of a normal one lies 2.05 deviations out."""
        grain = 2.05 * math.hypot(self.noise, self.stripes) / 255
        return math.sqrt(max(0.0, distance * abs(distance) - grain * grain))


def read_pixels(picture: Picture, *, background: float = 0.0) -> Readings:
    """Measure one image; pixels at or below ``background`` are no part of the subject (the black around a scan)."""
    apart = max(1, math.isqrt(picture.size[0] * picture.size[1] // SAMPLES))
    columns = np.arange(0, picture.size[1], apart)
    sample = _grey(picture, picture.pixels[::apart].take(columns, axis=1))
    subject = sample[sample > background] if background else sample.ravel()
    if subject.size < 16:
        subject = sample.ravel()
    dark, bright = _quantile(subject, 0.02), _quantile(subject, 0.98)
    bands = _bands(picture)
    core = CORE_ROWS if len(bands) > 1 else bands.shape[1]
    width = picture.size[1]
    edge = width // 4 if width >= WIDE else 0
    middle = bands[..., edge : width - edge]
    noise = _noise(middle[:, :core])
    floor = max(0.3 * (bright - dark), 6 * noise, 0.04)
    return Readings(
        mean=float(subject.sum()) / subject.size,
        dark=dark,
        bright=bright,
        saturated=np.count_nonzero(subject > 0.975) / subject.size,
        noise=255 * noise,
        sharpness=min(_step_sharpness(bands[:, :core:3], floor, 2), _step_sharpness(bands, floor, 1)),
        stripes=255 * max(_stripes(_column_profiles(middle)), _stripes(_row_profiles(middle))),
    )


def _grey(picture: Picture, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Grey:
    grey = pixels.astype(np.float32, order="C")
    if picture.pixels.ndim == 2:
        grey *= np.float32(1 / picture.peak)
        return grey
    return (grey.reshape(-1, 3) @ (WEIGHTS / np.float32(picture.peak))).reshape(pixels.shape[:-1])


def _bands(picture: Picture) -> Grey:
    """(bands, rows, columns): neighbouring rows, evenly spread; the whole image as one band where it is small."""
    height = picture.size[0]
    if height <= BANDS * BAND_ROWS:
        return _grey(picture, picture.pixels)[None]
    apart = height // BANDS
    bands = picture.pixels[: BANDS * apart].reshape(BANDS, apart, *picture.pixels.shape[1:])
    return _grey(picture, bands[:, :BAND_ROWS])


def _noise(bands: Grey) -> float:
    """Noise σ from the diagonal 2 x 2 difference, whose variance is 4σ², in the flattest blocks (Immerkær 1996, cut down).

    Blocks at black or white are left out: clipping hides the grain there.
    """
    if min(bands.shape[1:]) <= BLOCK:
        return 0.0
    down = bands[:, 1:] - bands[:, :-1]
    corner = down[..., 1:] - down[..., :-1]
    corner *= corner
    energy = _block_means(corner)
    level = _block_means(bands[:, :-1, :-1])
    usable = energy[(level > 0.02) & (level < 0.96)]
    return math.sqrt(_quantile(usable, 0.2)) / 2 if usable.size >= 8 else 0.0


def _quantile(values: NDArray[np.floating[Any]], share: float) -> float:
    """A quantile without interpolation: numpy's own costs more than decoding a small image."""
    place = round(share * (values.size - 1))
    return float(np.partition(values.ravel(), place)[place])


def _block_means(values: Grey) -> Grey:
    # two products with a vector are quicker than one mean over two axes
    rows, columns = values.shape[1] // BLOCK, values.shape[2] // BLOCK
    lines = values[:, : rows * BLOCK, : columns * BLOCK].reshape(len(values), rows, BLOCK, columns * BLOCK)
    lines = np.matmul(BLOCK_SHARE, lines).reshape(len(values), rows, columns, BLOCK)
    means: Grey = np.matmul(lines, BLOCK_SHARE)
    return means


def _step_sharpness(bands: Grey, floor: float, axis: int) -> float:
    """Median, over the steps above ``floor`` along an axis, of the largest rise within two pixels against the whole step."""
    length = bands.shape[axis]
    if length <= REACH + 2:
        return 1.0
    stride = 1 if axis == 2 else bands.shape[2]  # of the flat array, along the axis
    span, lines = length * stride, (length - REACH) * stride
    flat = bands.reshape(-1, span)
    step = flat[:, REACH * stride :] - flat[:, : -REACH * stride]
    step = np.abs(step, out=step).ravel()
    strong = np.flatnonzero(step > floor)
    if len(strong) < FEWEST:
        return 1.0
    strong = strong[:: -(-len(strong) // STEPS)]
    starts = strong + strong // lines * REACH * stride  # a line of steps is shorter than a line of pixels
    path = flat.ravel().take(starts + stride * ALONG)  # (pixels along the step, steps)
    rise = np.abs(path[2:] - path[:-2]).max(axis=0)
    return _quantile(np.minimum(1.0, rise / step[strong]), 0.5)


def _column_profiles(bands: Grey) -> Grey:
    """(bands, columns): mean grey of every column in each band; a single band is cut into as many."""
    _, rows, columns = bands.shape
    if len(bands) == 1:
        rows //= BANDS
        bands = bands[0, : BANDS * rows].reshape(BANDS, rows, columns)
    means: Grey = np.matmul(_share(rows), bands)
    return means


def _row_profiles(bands: Grey) -> Grey:
    """(groups, bands, rows): mean grey of every row in each of as many groups of columns."""
    columns = bands.shape[2] // BANDS
    groups = bands[..., : BANDS * columns].reshape(*bands.shape[:2], BANDS, columns)
    means: Grey = np.matmul(groups, _share(columns))
    return means.transpose(2, 0, 1)


def _share(count: int) -> Grey:
    return np.full(count, 1 / max(1, count), dtype=np.float32)  # a product with it is quicker than a mean


def _stripes(profiles: Grey) -> float:
    """Amplitude of offsets that whole lines share: what the first and the second half of their bands have in common."""
    if profiles[0].size < 32:
        return 0.0
    fine = profiles[..., 1:-1] - (profiles[..., :-2] + profiles[..., 2:]) * np.float32(0.5)
    one, other = _middles(fine.reshape(2, BANDS // 2, -1))
    return math.sqrt(max(0.0, _quantile(one * other, 0.5) / 0.455 / 1.5))


def _middles(halves: Grey) -> Grey:
    """Median over the three profiles of each half, so that a pole in one band is not a stripe."""
    # sorting takes four times as long
    low, high = np.minimum(halves[:, 0], halves[:, 1]), np.maximum(halves[:, 0], halves[:, 1])
    median: Grey = np.maximum(low, np.minimum(high, halves[:, 2]))
    return median
