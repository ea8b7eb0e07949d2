"""What two images of different kinds have in common: the orientation of their edges, and where it agrees.

Infrared and visible images differ in brightness and often in the sign of an edge, but share the direction of edges. The
field used here is the doubled-angle gradient, ``z² / (|z|² + ε²)`` with ``z = gx + i·gy``: of length near 1 at any clear
edge, near 0 on noise, the same for an edge and its negative. The real part of ``field(a) · conj(field(b))`` is the
cosine of twice the angle between two edges, and its cross-correlation over all shifts peaks where they coincide
(phase-like correlation of orientations; compare normalised gradient fields, Haber and Modersitzki 2006).

All of it is NumPy: the check of a pair runs in threads that read ahead, and PyTorch would start threads of its own in each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]  # (H, W), 0..1
Field = NDArray[np.complex64]  # (H, W), of length 0..1

SIDE = 128  # pixels of the longer side at which a shift is measured: 2 ms, and as sure as at 256
REACH = 0.3  # of height and width: two images of one size that lie further apart are no pair
NEARBY = 6  # pixels around a peak that belong to it
BLUR = (0.0044, 0.0540, 0.2420, 0.3991)  # one half of a Gaussian of seven pixels and its middle, sigma 1
CLEAR_HEIGHT = 8.0  # standard deviations; true pairs of eight data sets reach 6.5 to 26, wrong infrared pairs 5 to 9
CLEAR_LEAD = 1.3  # times the next peak; true pairs 1.04 to 2.4, wrong ones at most 1.47
BORDER = 2  # pixels along the border whose gradient is not the scene's


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far the second image's content lies from the first's: right and down, in pixels of the first.

    ``height`` is the peak of the correlation in standard deviations, ``lead`` its ratio to the next peak elsewhere.
    """

    right: float
    down: float
    height: float
    lead: float

    @property
    def clear(self) -> bool:
        """Whether the images have enough in common for the shift to be believed."""
        return self.height >= CLEAR_HEIGHT and self.lead >= CLEAR_LEAD

    @property
    def distance(self) -> float:
        """Pixels of the first image."""
        return math.hypot(self.right, self.down)


def measure_shift(first: Grey, second: Grey) -> Shift:
    """The shift between two grey images of one size; SIDE pixels a side at most are meant."""
    right, down, peak, lead = correlate(orientation_field(first), orientation_field(second), reach=REACH)
    return Shift(right=-right, down=-down, height=peak, lead=lead)


def orientation_field(image: Grey, valid: NDArray[np.bool_] | None = None) -> Field:
    """The field of a grey image; zero along the border and where ``valid`` (H, W) is False."""
    smooth = np.pad(image, 4, mode="edge")
    for _ in range(2):  # along the rows and then, turned, along the columns
        blurred = BLUR[3] * smooth[3:-3]
        for place, weight in enumerate(BLUR[:3]):
            blurred += np.float32(weight) * (smooth[place : place - 6] + smooth[6 - place : -place or None])
        smooth = blurred.T
    gradient = np.empty(image.shape, dtype=np.complex64)
    np.subtract(smooth[1:-1, 2:], smooth[1:-1, :-2], out=gradient.real)
    np.subtract(smooth[2:, 1:-1], smooth[:-2, 1:-1], out=gradient.imag)
    gradient *= np.float32(0.5)
    squared = np.square(gradient.real) + np.square(gradient.imag)
    inside = np.zeros(image.shape, dtype=bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    if valid is not None:
        inside &= _shrunk(_shrunk(valid).T).T
    known = squared[inside]
    middle = (known.size - 1) // 2
    noise = math.sqrt(float(np.partition(known, middle)[middle])) + 1e-3 if known.size else 1.0
    gradient *= gradient
    gradient *= inside / (squared + np.float32(noise * noise))
    return gradient


def correlate(first: Field, second: Field, reach: float = 1.0) -> tuple[float, float, float, float]:
    """The shift (right, down) of ``second`` that fits ``first`` best, with the peak's height and lead; no wrapping.

    Looks no further than ``reach`` of the first's height and width.
    """
    size = _fast(first.shape[0] + second.shape[0]), _fast(first.shape[1] + second.shape[1])
    spectrum = sum(  # of real and imaginary parts: their halves fit a cache, those of complex fields do not
        np.fft.rfft2(one, size) * np.fft.rfft2(other, size).conj()
        for one, other in ((first.real, second.real), (first.imag, second.imag))
    )
    surface = np.fft.irfft2(spectrum, size)
    mean, deviation = float(surface.mean()), float(surface.std())
    for axis in (0, 1):
        far = round(reach * first.shape[axis])
        if far + 1 < size[axis] - far:
            surface[(slice(None),) * axis + (slice(far + 1, size[axis] - far),)] = 0
    row, column = divmod(int(surface.argmax()), size[1])
    peak = float(surface[row, column])
    height_of_peak = (peak - mean) / max(deviation, 1e-9)
    finer = (
        _between(surface[[(row - 1) % size[0], row, (row + 1) % size[0]], column]),
        _between(surface[row, [(column - 1) % size[1], column, (column + 1) % size[1]]]),
    )
    around = np.arange(-NEARBY, NEARBY + 1)
    surface[np.ix_((row + around) % size[0], (column + around) % size[1])] = -math.inf
    lead = peak / max(float(surface.max()), 1e-9)
    down = row - (size[0] if row >= first.shape[0] else 0) + finer[0]
    right = column - (size[1] if column >= first.shape[1] else 0) + finer[1]
    return right, down, height_of_peak, lead


def _shrunk(valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where all pixels of the column within BORDER are valid; beyond the image all are."""
    padded = np.pad(valid, ((BORDER, BORDER), (0, 0)), constant_values=True)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * BORDER + 1, axis=0).all(axis=-1))


def _between(three: NDArray[np.floating[Any]]) -> float:
    """Where a parabola through three neighbouring values has its top, -0.5 to 0.5 around the middle one."""
    left, middle, right = three.tolist()
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (left - right) / bend))


def _fast(length: int) -> int:
    """The next multiple of 32: sizes that transform fast, and even."""
    return -(-length // 32) * 32
