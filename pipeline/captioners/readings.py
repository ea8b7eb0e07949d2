"""What can be read off an image's pixels about its quality. All figures in 0..1 of full brightness unless said otherwise.

Global figures come from some thousand pixels, local ones (noise, sharpness, stripes) from bands of whole rows spread over
the image: reading an image must cost a small part of decoding it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.images import Picture

Grey = NDArray[np.float32]
SAMPLES = 3000  # pixels, about, on a grid over the image
BANDS, BAND_ROWS = 6, 11
CORE_ROWS = 6  # of a band: one row of blocks and its neighbour; every second one tells enough of steps along the rows
WIDE = 400  # from this width on grain and column stripes are looked for in the middle half
LINES = 36  # columns looked at for stripes along the rows
ROWS = 200  # from this height on the middle half shows them well enough
BLOCK = 5
BLOCK_SHARE = np.full(BLOCK, 1 / BLOCK, dtype=np.float32)
REACH = 8  # pixels over which a step is looked at for its sharpness
FEWEST, STEPS = 24, 300  # strong ones: fewer say nothing, and of more only about so many are followed
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Figures of one image."""

    mean: float  # of the foreground
    dark: float  # 2nd percentile
    bright: float  # 98th percentile
    saturated: float  # share of pixels at full brightness
    noise: float  # standard deviation of the grain, in levels of 255
    sharpness: (
        float  # how much of a strong step happens within two pixels, the worse of both directions; 1: a clean edge
    )
    stripes: float  # amplitude of column or row offsets, in levels of 255
    foreground: float  # share of pixels that are not black background

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
    dark, bright = _quantiles(subject, 0.02, 0.98)
    bands = _bands(picture)
    core = CORE_ROWS if len(bands) > 1 else bands.shape[1]
    width = picture.size[1]
    edge = width // 4 if width >= WIDE else 0
    middle = bands[..., edge : width - edge]
    noise = _noise(middle[:, :core])
    floor = max(0.3 * float(bright - dark), 6 * noise, 0.04)
    return Readings(
        mean=float(subject.mean()),
        dark=float(dark),
        bright=float(bright),
        saturated=np.count_nonzero(subject > 0.975) / subject.size,
        noise=255 * noise,
        sharpness=min(_step_sharpness(bands[:, :core:2], floor, 2), _step_sharpness(bands, floor, 1)),
        stripes=255 * max(_stripes(middle), _row_stripes(picture)),
        foreground=float(subject.size / sample.size),
    )


def _grey(picture: Picture, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> Grey:
    grey = pixels.astype(np.float32, order="C")
    grey = grey if pixels.ndim == 2 else (grey.reshape(-1, 3) @ LUMA).reshape(pixels.shape[:2])
    grey *= np.float32(1 / picture.peak)
    return grey


def _bands(picture: Picture) -> Grey:
    """(bands, rows, columns): neighbouring rows, evenly spread; the whole image as one band where it is small."""
    height, width = picture.size
    if height <= BANDS * BAND_ROWS:
        return _grey(picture, picture.pixels)[None]
    return _grey(picture, picture.pixels.take(_spread_rows(height), axis=0)).reshape(BANDS, BAND_ROWS, width)


@lru_cache
def _spread_rows(height: int) -> NDArray[np.intp]:
    starts = np.linspace(0, height - BAND_ROWS, BANDS).astype(np.intp)
    return (starts[:, None] + np.arange(BAND_ROWS)).ravel()


def _noise(bands: Grey) -> float:
    """Noise σ from the diagonal 2 x 2 difference, whose variance is 4σ², in the flattest blocks (Immerkær 1996, cut down).

    Blocks at black or white are left out: clipping hides the grain there.
    """
    if min(bands.shape[1:]) <= BLOCK:
        return 0.0
    down = bands[:, 1:] - bands[:, :-1]
    corner = down[..., 1:] - down[..., :-1]
    corner *= corner
    energy = _block_means(corner) / 4
    level = _block_means(bands[:, :-1, :-1])
    usable = energy[(level > 0.02) & (level < 0.96)]
    return math.sqrt(_quantiles(usable, 0.2)[0]) if usable.size >= 8 else 0.0


def _quantiles(values: NDArray[np.floating[Any]], *shares: float) -> list[float]:
    """Quantiles without interpolation: numpy's own cost more than decoding a small image."""
    flat = values.ravel()
    places = [round(share * (flat.size - 1)) for share in shares]
    return [float(np.partition(flat, place)[place]) for place in places]  # one place at a time is the quick way


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
    step = np.abs(flat[:, REACH * stride :] - flat[:, : -REACH * stride]).ravel()
    strong = np.flatnonzero(step > floor)
    if len(strong) < FEWEST:
        return 1.0
    strong = strong[:: max(1, len(strong) // STEPS)]
    starts = strong + strong // lines * REACH * stride  # a line of steps is shorter than a line of pixels
    path = flat.ravel().take(starts + stride * np.arange(REACH + 1)[:, None])  # (pixels along the step, steps)
    rise = np.abs(path[2:] - path[:-2]).max(axis=0)
    return _quantiles(np.minimum(1.0, rise / step[strong]), 0.5)[0]


def _stripes(bands: Grey) -> float:
    """Amplitude of offsets that whole columns share: what the upper and the lower half of the image have in common."""
    if bands.shape[2] < 32 or bands.shape[:2] == (1, 1):
        return 0.0
    share = np.full(bands.shape[1], 1 / bands.shape[1], dtype=np.float32)  # a product is quicker than a mean
    profile = (
        np.matmul(share, bands)
        if len(bands) > 1
        else np.stack([half.mean(axis=0) for half in np.array_split(bands[0], 2)])
    )
    fine = profile[:, 1:-1] - (profile[:, :-2] + profile[:, 2:]) / 2
    half = len(fine) // 2
    shared = _middle(fine[:half]) * _middle(fine[half:])
    return float(np.sqrt(max(0.0, _quantiles(shared, 0.5)[0] / 0.455 / 1.5)))


def _middle(profiles: Grey) -> Grey:
    """Median over a few profiles, so that a pole in one band is not a stripe."""
    if len(profiles) == 3:  # the usual number of bands in half an image; sorting takes four times as long
        low, high = np.minimum(profiles[0], profiles[1]), np.maximum(profiles[0], profiles[1])
        median: Grey = np.maximum(low, np.minimum(high, profiles[2]))
        return median
    ordered = np.sort(profiles, axis=0)
    count = len(ordered)
    middle: Grey = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return middle


def _row_stripes(picture: Picture) -> float:
    """``_stripes`` of the rows: of those in the middle half, which lines across the image cross too."""
    height, width = picture.size
    edge = height // 4 if height >= ROWS else 0
    columns = _spread_columns(width)
    values = picture.pixels[edge : height - edge].take(columns, axis=1).reshape(height - 2 * edge, -1)
    profiles = values.astype(np.float32) @ _shares(len(columns), picture.pixels.ndim) * np.float32(1 / picture.peak)
    return _stripes(np.ascontiguousarray(profiles.T)[:, None, :])


@lru_cache
def _spread_columns(width: int) -> NDArray[np.intp]:
    return np.linspace(0, width - 1, min(width, LINES)).astype(np.intp)


@cache
def _shares(columns: int, dimensions: int) -> Grey:
    """(columns times channels, bands): what each value adds to the mean grey of its band of neighbouring columns."""
    shares = np.zeros((columns, 3 if dimensions == 3 else 1, min(BANDS, columns)), dtype=np.float32)
    for band, part in enumerate(np.array_split(np.arange(columns), shares.shape[2])):
        shares[part, :, band] = (LUMA if dimensions == 3 else np.ones(1, dtype=np.float32)) / len(part)
    return shares.reshape(-1, shares.shape[2])
