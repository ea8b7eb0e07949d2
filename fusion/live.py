"""What one sees while a network trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from pipeline.console import note, progress

SMOOTHING = 0.95


class LiveView:
    """A progress bar with loss terms, images per second, data-wait share and learning rate; validation as lines."""

    def __init__(self, stage: str, steps: int, start: int, show: bool = True) -> None:
        self.bar = progress("terms", "rate")
        self.bar.disable = self.bar.disable or not show
        self.show = show
        self.task = self.bar.add_task(stage, total=steps, completed=start, terms="", rate="")
        self.seconds = self.waiting = self.images = 0.0
        self.drawn = 0.0

    def __enter__(self) -> LiveView:
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def stepped(self, terms: Mapping[str, float], lr: float, images: int, waited: float, seconds: float) -> None:
        """One update is done: its weighted terms, learning rate, images, and seconds (of which waiting for data)."""
        for name, value in (("seconds", seconds), ("waiting", waited), ("images", float(images))):
            setattr(self, name, SMOOTHING * getattr(self, name) + value)
        fields: dict[str, Any] = {}
        if time.monotonic() - self.drawn > 0.2:
            self.drawn = time.monotonic()
            shown = " ".join(f"{name} {value:.3g}" for name, value in terms.items())
            rates = self.rates()
            fields = {
                "terms": f"loss {sum(terms.values()):.3g} ({shown})",
                "rate": f"{rates['images_per_second']:.1f} img/s, wait {100 * rates['data_wait']:.0f} %, lr {lr:.1e}",
            }
        self.bar.update(self.task, advance=1, **fields)

    def validated(self, values: Mapping[str, float]) -> None:
        """A validation is done."""
        if self.show and not self.bar.disable:
            note("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))

    def rates(self) -> dict[str, float]:
        """Images per second and the share of time spent waiting for data, smoothed over some twenty steps."""
        seconds = max(self.seconds, 1e-9)
        return {"images_per_second": self.images / seconds, "data_wait": self.waiting / seconds}
