"""Known degradations, drawn on images: the synthetic set and training draw them, so their events are exact.

Every function takes a generator, a float32 image in 0..1, (H, W) or (H, W, 3), and a severity; it returns a new image of
the same shape in 0..1. The strengths are chosen so that "slight" is visible on a close look, "moderate" plainly, and
"severe" loses content. Labels are those of ``manifests/tasks/ivf.yaml``; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, closest
from pipeline.events import SEVERITIES

Image = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One label: which images it may be drawn on, and how."""

    label: str
    modalities: tuple[str, ...]
    draw: Callable[[np.random.Generator, Image, str], Image]

    def __call__(self, rng: np.random.Generator, image: Image, severity: str) -> Image:
        if severity not in SEVERITIES:
            raise InputError(f"no severity {severity!r}{closest(severity, SEVERITIES)}; use {', '.join(SEVERITIES)}")
        return np.clip(self.draw(rng, image.astype(np.float32, copy=False), severity), 0, 1).astype(np.float32)


def low_light(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """A short exposure: ``gain * image ** gamma``; shadows sink first."""
    gain = _strength(severity, 0.50, 0.28, 0.13) * rng.uniform(0.9, 1.1)
    darker: Image = np.float32(gain) * image ** np.float32(1.25)
    return darker


def over_exposure(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """A long exposure: bright areas clip to white and bleed a little into their surroundings."""
    gain = _strength(severity, 1.6, 2.2, 3.2) * rng.uniform(0.95, 1.05)
    bright = image * np.float32(gain) + np.float32(_strength(severity, 0.04, 0.08, 0.14))
    burnt = np.maximum(bright - 1, 0)
    return bright + np.float32(0.5) * _box_blur(burnt, 4)


def low_contrast(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """Haze: everything moves towards one grey level, ``c * image + (1 - c) * level`` (Koschmieder, constant depth)."""
    keep = _strength(severity, 0.50, 0.32, 0.18)
    level = np.float32(rng.uniform(0.45, 0.65))
    return np.float32(keep) * image + np.float32(1 - keep) * level


def sensor_noise(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """Grain: white Gaussian noise plus a part that grows with the square root of the signal (shot noise)."""
    sigma = _strength(severity, 0.035, 0.07, 0.13)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    grainy: Image = image + noise * np.float32(sigma) * np.sqrt(np.float32(0.6) + np.float32(0.6) * image)
    return grainy


def motion_blur(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """Mean along a straight path of 5, 9 or 15 pixels in a random direction (pixels, since networks see pixels)."""
    length = int(_strength(severity, 5, 9, 15))
    angle = rng.uniform(0, np.pi)
    total = np.zeros_like(image)
    for step in np.linspace(-(length - 1) / 2, (length - 1) / 2, length):
        total += shifted(image, round(step * np.sin(angle)), round(step * np.cos(angle)))
    return total / np.float32(length)


def stripes(rng: np.random.Generator, image: Image, severity: str) -> Image:
    """Fixed-pattern noise of an uncooled detector: one offset per column (sometimes per row); severe ones have dead lines."""
    sigma = _strength(severity, 0.035, 0.065, 0.11)
    along_rows = rng.random() < 0.25
    count = image.shape[0] if along_rows else image.shape[1]
    offsets: Image = rng.standard_normal((count,), dtype=np.float32) * np.float32(sigma)
    if severity == "severe":
        dead = rng.choice(count, size=max(1, count // 80), replace=False)
        offsets[dead] = rng.choice(np.array([-0.6, 0.6], dtype=np.float32), size=dead.size)
    shape = (count, 1) if along_rows else (1, count)
    pattern = offsets.reshape(shape)
    striped: Image = image + (pattern if image.ndim == 2 else pattern[:, :, None])
    return striped


DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType(
    {
        "low_light": Degradation(label="low_light", modalities=("visible",), draw=low_light),
        "over_exposure": Degradation(label="over_exposure", modalities=("visible",), draw=over_exposure),
        "low_contrast": Degradation(label="low_contrast", modalities=("visible", "infrared"), draw=low_contrast),
        "infrared_noise": Degradation(label="infrared_noise", modalities=("infrared",), draw=sensor_noise),
        "motion_blur": Degradation(label="motion_blur", modalities=("visible", "infrared"), draw=motion_blur),
        "sensor_artifact": Degradation(label="sensor_artifact", modalities=("infrared",), draw=stripes),
        "high_noise": Degradation(label="high_noise", modalities=("visible",), draw=sensor_noise),
    }
)


def degrade(rng: np.random.Generator, image: Image, label: str, severity: str) -> Image:
    """Draw the degradation ``label`` on ``image``. Raises InputError for an unknown label or severity."""
    if label not in DEGRADATIONS:
        raise InputError(
            f"no degradation {label!r}{closest(label, DEGRADATIONS)}; there are: {', '.join(DEGRADATIONS)}"
        )
    return DEGRADATIONS[label](rng, image, severity)


def labels_for(modality: str) -> tuple[str, ...]:
    """The degradations that can be drawn on ``modality`` ("visible" or "infrared")."""
    return tuple(label for label, entry in DEGRADATIONS.items() if modality in entry.modalities)


def shifted(image: Image, down: int, right: int) -> Image:
    """``image`` moved by whole pixels; the border is repeated."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    moved: Image = image[rows[:, None], columns[None, :]]
    return moved


def _box_blur(image: Image, radius: int) -> Image:
    for axis in (0, 1):
        width = 2 * radius + 1
        pad = [(radius + 1, radius) if index == axis else (0, 0) for index in range(image.ndim)]
        summed = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis, dtype=np.float64)
        size = image.shape[axis]
        high = np.take(summed, np.arange(width, size + width), axis=axis)
        low = np.take(summed, np.arange(size), axis=axis)
        image = ((high - low) / width).astype(np.float32)
    return image


def _strength(severity: str, *values: float) -> float:
    return values[SEVERITIES.index(severity)]
