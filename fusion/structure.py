"""What two images of different kinds have in common: the orientation of their edges, and where it agrees.

Infrared and visible images differ in brightness and often in the sign of an edge, but share the direction of edges. The
field used here is the doubled-angle gradient, ``z² / (|z|² + ε²)`` with ``z = gx + i·gy``: of length near 1 at any clear
edge, near 0 on noise, the same for an edge and its negative. The real part of ``field(a) · conj(field(b))`` is the
cosine of twice the angle between two edges, and its cross-correlation over all shifts peaks where they coincide
(phase-like correlation of orientations; compare normalised gradient fields, Haber and Modersitzki 2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SIDE = 128  # pixels of the longer side at which a shift is measured: 4 ms, and as sure as at 256
REACH = 0.3  # of height and width: two images of one size that lie further apart are no pair
NEARBY = 6  # pixels around a peak that belong to it
BLUR = (0.0044, 0.0540, 0.2420, 0.3991, 0.2420, 0.0540, 0.0044)  # Gaussian, sigma 1
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


def measure_shift(first: Tensor, second: Tensor) -> Shift:
    """The shift between two grey images (H, W) and (H', W'), 0..1; the second is scaled to the first's size.

    Measured at SIDE pixels, so to about a 250th of the longer side.
    """
    height, width = first.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(8, round(height * scale)), max(8, round(width * scale))
    fields = [orientation_field(resized(image, size)) for image in (first, second)]
    right, down, peak, lead = correlate(fields[0], fields[1], reach=REACH)
    return Shift(right=-right * width / size[1], down=-down * height / size[0], height=peak, lead=lead)


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A grey image (H, W) at another size (height, width), without aliasing."""
    whole: Tensor = functional.interpolate(image[None, None], size, mode="bilinear", antialias=True)
    return whole[0, 0]


def orientation_field(image: Tensor, valid: Tensor | None = None) -> Tensor:
    """(H, W) complex64 field of a grey image (H, W); zero along the border and where ``valid`` (H, W) is False."""
    wide = functional.pad(image[None, None], (4, 4, 4, 4), mode="replicate")
    kernel = torch.tensor(BLUR)
    smooth = functional.conv2d(functional.conv2d(wide, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]
    gradient = torch.complex(smooth[1:-1, 2:] - smooth[1:-1, :-2], smooth[2:, 1:-1] - smooth[:-2, 1:-1]) / 2
    length = gradient.abs()
    inside = torch.zeros_like(image, dtype=torch.bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    if valid is not None:
        reach = 2 * BORDER + 1
        inside &= functional.max_pool2d((~valid).float()[None, None], reach, 1, BORDER)[0, 0] == 0
    noise = float(length[inside].median()) + 1e-3 if bool(inside.any()) else 1.0
    return gradient * gradient / (length * length + noise * noise) * inside


def correlate(first: Tensor, second: Tensor, reach: float = 1.0) -> tuple[float, float, float, float]:
    """The shift (right, down) of ``second`` that fits ``first`` best, with the peak's height and lead; no wrapping.

    Looks no further than ``reach`` of the first's height and width.
    """
    height, width = (first.shape[axis] + second.shape[axis] for axis in (0, 1))
    size = (_fast(height), _fast(width))
    spectrum = torch.fft.fft2(first, size) * torch.fft.fft2(second, size).conj()
    surface = torch.fft.ifft2(spectrum).real
    mean, deviation = float(surface.mean()), float(surface.std())
    for axis in (0, 1):
        far = round(reach * first.shape[axis])
        if far + 1 < size[axis] - far:
            surface.narrow(axis, far + 1, size[axis] - 2 * far - 1).fill_(0)
    index = int(surface.argmax())
    row, column = divmod(index, size[1])
    peak = float(surface[row, column])
    height_of_peak = (peak - mean) / max(deviation, 1e-9)
    offset = range(-NEARBY, NEARBY + 1)
    rows, columns = (
        torch.tensor([(place + o) % n for o in offset]) for place, n in zip((row, column), size, strict=True)
    )
    finer = (
        _between(surface[[(row - 1) % size[0], row, (row + 1) % size[0]], column]),
        _between(surface[row, [(column - 1) % size[1], column, (column + 1) % size[1]]]),
    )
    surface[rows[:, None], columns] = -math.inf
    lead = peak / max(float(surface.max()), 1e-9)
    down = row - (size[0] if row >= first.shape[0] else 0) + finer[0]
    right = column - (size[1] if column >= first.shape[1] else 0) + finer[1]
    return right, down, height_of_peak, lead


def _between(three: Tensor) -> float:
    """Where a parabola through three neighbouring values has its top, -0.5 to 0.5 around the middle one."""
    left, middle, right = three.tolist()
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else max(-0.5, min(0.5, 0.5 * (left - right) / bend))


def _fast(length: int) -> int:
    """The next multiple of 32: sizes that transform fast."""
    return -(-length // 32) * 32
