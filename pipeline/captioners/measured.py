"""Captions read off the pixels, without a model: percentiles, contrast, grain, sharpness, stripes, saturation.

It says what it measured and no more: it does not know what is in the picture. It is the offline default of the quickstart,
and a second opinion on what a language model says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.readings import Readings, read_pixels
from pipeline.errors import InputError
from pipeline.events import SEVERITIES, Caption, Event
from pipeline.images import Picture
from pipeline.tasks import Task

VERSION = 4  # raised whenever the same pixels would give another caption
SCAN_BACKGROUND = 0.04  # the black around a scanned head is no part of the subject


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One label: a figure, the three limits from which it is slight, moderate and severe, and a phrase with the figure.

    Rising limits: larger is worse. Falling limits: smaller is worse.
    """

    label: str
    figure: Callable[[Readings], float]
    limits: tuple[float, float, float]
    phrase: Callable[[Readings], str]
    modalities: tuple[str, ...] = ()

    def severity(self, readings: Readings) -> str | None:
        """The severity the figure reaches, or None."""
        value = self.figure(readings)
        worse = self.limits[0] < self.limits[-1]
        reached = [value >= limit if worse else value <= limit for limit in self.limits]
        return SEVERITIES[sum(reached) - 1] if any(reached) else None


def _level(value: float) -> int:
    return round(255 * value)


def _uncovered_contrast(readings: Readings) -> float:
    """Contrast, but 1 where something else explains its lack: haze lifts the black and burns nothing out."""
    return readings.contrast if readings.floor > 0.08 and readings.saturated < 0.05 else 1.0


RULES: dict[str, tuple[Rule, ...]] = {
    "ivf": (
        Rule(
            label="low_light",
            figure=lambda r: r.mean,
            limits=(0.235, 0.12, 0.06),
            phrase=lambda r: f"mean brightness {_level(r.mean)} of 255, shadows at {_level(r.dark)}",
            modalities=("visible",),
        ),
        Rule(
            label="over_exposure",
            figure=lambda r: r.saturated,
            limits=(0.05, 0.2, 0.5),
            phrase=lambda r: f"{100 * r.saturated:.0f} % of the image is burnt out",
            modalities=("visible",),
        ),
        Rule(
            label="low_contrast",
            figure=_uncovered_contrast,
            limits=(0.575, 0.4, 0.25),
            phrase=lambda r: f"greys lie between {_level(r.floor)} and {_level(r.ceiling)}",
        ),
        Rule(
            label="infrared_noise",
            figure=lambda r: r.noise,
            limits=(3.5, 9.5, 18.0),
            phrase=lambda r: f"grain of {r.noise:.0f} levels",
            modalities=("infrared",),
        ),
        Rule(
            label="high_noise",
            figure=lambda r: r.noise,
            limits=(3.0, 7.0, 12.5),  # independent grain of three channels partly cancels in their grey
            phrase=lambda r: f"grain of {r.noise:.0f} levels",
            modalities=("visible",),
        ),
        Rule(
            label="motion_blur",
            figure=lambda r: r.sharpness,
            limits=(0.54, 0.43, 0.36),
            phrase=lambda r: f"only {100 * r.sharpness:.0f} % of a step happens within two pixels",
        ),
        Rule(
            label="sensor_artifact",
            figure=lambda r: r.stripes,
            limits=(4.0, 12.0, 21.0),
            phrase=lambda r: f"lines that differ by {r.stripes:.0f} levels run across",
        ),
    ),
    "medical": (
        Rule(
            label="contrast_enhancement",
            figure=lambda r: r.contrast,
            limits=(0.75, 0.6, 0.4),
            phrase=lambda r: f"tissue lies between {_level(r.dark)} and {_level(r.bright)} of 255",
        ),
        Rule(
            label="edge_preservation",
            figure=lambda r: r.saturated,
            limits=(0.04, 0.12, 0.3),
            phrase=lambda r: f"dense borders, {100 * r.saturated:.0f} % of the subject at full brightness",
        ),
        Rule(
            label="noise_suppression",
            figure=lambda r: r.noise,
            limits=(3.0, 7.0, 14.0),
            phrase=lambda r: f"grain of {r.noise:.0f} levels",
        ),
        Rule(
            label="detail_enhancement",
            figure=lambda r: r.sharpness,
            limits=(0.6, 0.48, 0.36),
            phrase=lambda r: f"soft structure, {100 * r.sharpness:.0f} % of a step within two pixels",
        ),
        Rule(
            label="artifact_reduction",
            figure=lambda r: r.stripes,
            limits=(2.5, 7.0, 14.0),
            phrase=lambda r: f"lines that differ by {r.stripes:.0f} levels run across",
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class MeasuredSettings:
    """Nothing to set: the limits are part of the version."""


class MeasuredCaptioner:
    """One rule a label, checked against figures of each image."""

    name = "measured"
    batch = 16  # decoded pairs in memory at a time

    def __init__(self, task: Task, settings: MeasuredSettings) -> None:
        """Raises InputError for a task without rules."""
        if task.name not in RULES:
            raise InputError(f"--captioner measured has no rules for task {task.name!r}; it has: {', '.join(RULES)}")
        self.task = task
        self.rules = RULES[task.name]

    def fingerprint(self) -> dict[str, Any]:
        """The version of the rules."""
        return {"name": self.name, "version": VERSION}

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request, in order; never an error."""
        return [self._one(request) for request in requests]

    def close(self) -> None:
        """Nothing to let go."""

    def _one(self, request: CaptionRequest) -> Caption:
        background = SCAN_BACKGROUND if self.task.name == "medical" else 0.0
        pictures = (request.first, request.second)
        readings = [read_pixels(picture, background=background) for picture in pictures]
        events: list[Event] = []
        for modality, figures in zip(self.task.modalities, readings, strict=True):
            found = self._events(modality, figures)
            events += found or [Event(modality=modality, type=self.task.default)]
        if self.task.name == "medical":
            events = [*shared_structure(pictures, self.task.modalities), *events]
        return Caption(events=tuple(events), scene=self._scene(readings), finish_reason="stop")

    def _events(self, modality: str, readings: Readings) -> list[Event]:
        events = []
        for rule in self.rules:
            if rule.modalities and modality not in rule.modalities:
                continue
            severity = rule.severity(readings)
            if severity:
                phrase = rule.phrase(readings)
                events.append(Event(modality=modality, type=rule.label, severity=severity, description=phrase))
        return events

    def _scene(self, readings: Sequence[Readings]) -> str:
        first, second = self.task.modalities
        light = ["a dark", "a dim", "an evenly lit", "a bright"][
            sum(readings[0].mean > level for level in (0.15, 0.3, 0.6))
        ]
        hot = "has strong highlights" if readings[1].bright - readings[1].mean > 0.35 else "has no strong highlights"
        return f"{light[:1].upper()}{light[1:]} {first} image; the {second} image {hot}"


def shared_structure(pictures: tuple[Picture, Picture], modalities: tuple[str, str]) -> list[Event]:
    """How much anatomy both scans show: correlation of their gradient magnitudes on every second pixel."""
    first, second = (_gradients(picture) for picture in pictures)
    if first.shape != second.shape or first.size < 16 or not first.std() or not second.std():
        return []
    agreement = float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
    limits = zip(SEVERITIES, (0.35, 0.55, 0.75), strict=True)
    reached = [severity for severity, limit in limits if agreement >= limit]
    if not reached:
        return []
    phrase = f"edges agree with the {modalities[1]} image by {100 * agreement:.0f} %"
    return [Event(modality=modalities[0], type="structure_consistency", severity=reached[-1], description=phrase)]


def _gradients(picture: Picture) -> np.ndarray[Any, np.dtype[np.float32]]:
    pixels = picture.pixels[::2, ::2].astype(np.float32)
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    size: np.ndarray[Any, np.dtype[np.float32]] = (
        np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    )
    return size
