"""A captioner that misbehaves on purpose: slow, failing, lying, crashing. For tests of everything around a captioner."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.errors import FusionError
from pipeline.events import SEVERITIES, Caption, failed_caption
from pipeline.tasks import Task


@dataclass(frozen=True, kw_only=True)
class ScriptedSettings:
    """What it does. Shares are of the pairs, chosen by pair_id and so the same in every run."""

    model: str = "scripted"
    revision: str | None = None
    max_pixels: int = 1_003_520
    delay: float = 0.0  # seconds a pair
    fail: float = 0.0  # share of pairs that get an error
    lie: float = 0.0  # share that get an answer nobody can parse
    odd: float = 0.0  # share that get a label the task does not know
    batch: int = 0
    die_at: str | None = None  # key of the pair at which the process kills itself
    stop_at: str | None = None  # key at which the back end raises, as a server that is gone does
    heal: Path | None = None  # while this file exists nothing fails, lies, dies or stops


class ScriptedCaptioner:
    """Answers follow from pair_id alone."""

    name = "scripted"

    def __init__(self, task: Task, settings: ScriptedSettings) -> None:
        self.task, self.settings = task, settings
        self.batch = settings.batch

    def fingerprint(self) -> dict[str, Any]:
        """Model, revision and pixel budget, as a real one has; misbehaviour is no part of it."""
        return {
            "name": self.name,
            "model": self.settings.model,
            "revision": self.settings.revision,
            "max_pixels": self.settings.max_pixels,
        }

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request. May sleep, kill this process, or raise FusionError."""
        return [self._one(request) for request in requests]

    def close(self) -> None:
        """Nothing to let go."""

    def _one(self, request: CaptionRequest) -> Caption:
        time.sleep(self.settings.delay)
        well = self.settings.heal is not None and self.settings.heal.exists()
        dice = int(request.pair_id[:8], 16) / 2**32
        if not well:
            if request.key == self.settings.die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if request.key == self.settings.stop_at:
                raise FusionError("the scripted captioner stopped, as it was told to")
            if dice < self.settings.fail:
                return failed_caption("refused", "the scripted captioner refused this pair")
            if dice < self.settings.fail + self.settings.lie:
                return parse_caption(
                    "I would rather talk about the weather.", self.task, finish_reason="stop", tokens=8
                )
        return parse_caption(self._answer(request, dice), self.task, finish_reason="stop", tokens=40)

    def _answer(self, request: CaptionRequest, dice: float) -> str:
        answer: dict[str, Any] = {"scene": f"Scene {request.pair_id[:6]}"}
        for position, modality in enumerate(self.task.modalities):
            labels = self.task.labels(modality)
            number = int(request.pair_id[8 + position], 16)
            label = "lens_flare" if position == 0 and dice > 1 - self.settings.odd else labels[number % len(labels)]
            severity = SEVERITIES[number % 3] if label != self.task.default else "none"
            answer[modality] = [{"type": label, "severity": severity, "description": f"as scripted {number}"}]
        return json.dumps(answer)
