"""The live view of a training: one bar with losses, gradient shares, rates and remaining time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from fusion.recipe import Recipe
from pipeline.console import note, progress

SHOWN = ("loss", "Qabf", "VIF", "SSIM", "loss_other_text")


class Live:
    """Counts pairs and waiting time between two looks, and shows them."""

    def __init__(self, recipe: Recipe, first: int, *, enabled: bool) -> None:
        self.recipe = recipe
        self.enabled = enabled
        self.shares: Mapping[str, float] = {}
        self._images = 0
        self._waited = 0.0
        self._since = time.monotonic()
        if enabled:
            self._bar = progress("loss", below=("rate", "terms"))
            self._task = self._bar.add_task(
                f"{recipe.stage} {recipe.network}", total=recipe.steps, completed=first, loss="", rate="", terms=""
            )

    def __enter__(self) -> Live:
        if self.enabled:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self._bar.stop()

    def count(self, images: int, waited: float) -> None:
        """One step done: pairs seen by all processes, and seconds waited for data."""
        self._images += images
        self._waited += waited

    def rates(self) -> dict[str, float]:
        """Images a second and the share of time spent waiting for data, since the last look."""
        now = time.monotonic()
        span = max(now - self._since, 1e-9)
        found = {"images_per_second": self._images / span, "data_wait": self._waited / span, "seconds": span}
        self._images, self._waited, self._since = 0, 0.0, now
        return found

    def show(self, step: int, record: Mapping[str, Any]) -> None:
        """Bring the bar up to date with a log record."""
        if not self.enabled:
            return
        terms = " ".join(
            f"{name} {value:.3g}" + (f" ({self.shares[name]:.0%})" if name in self.shares else "")
            for name, value in record["terms"].items()
        )
        rate = f"{record['images_per_second']:.1f} img/s wait {record['data_wait']:.0%} lr {record['lr']:.1e}"
        self._bar.update(self._task, completed=step, loss=f"loss {record['loss']:.3f}", rate=rate, terms=terms)

    def validated(self, step: int, metrics: Mapping[str, float]) -> None:
        """A line that stays, with the validation measures."""
        if self.enabled and metrics:
            parts = [f"{name} {metrics[name]:.4f}" for name in SHOWN if name in metrics]
            note(f"step {step}: validation {', '.join(parts)}")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the block counts neither as training nor as waiting."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began
