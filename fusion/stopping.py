"""Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HEEDED = (signal.SIGINT, signal.SIGTERM)
TWICE = 1.0  # seconds in which a signal that comes again is the same: `timeout` sends it to a process and to its group


class Stopping:
    """``asked``: the number of the signal that asked to stop, or None; ``at`` tells when, by the monotonic clock."""

    asked: int | None = None
    at = 0.0

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; obey the second at once."""
        now = time.monotonic()
        if self.asked is None:
            self.asked, self.at = number, now
        elif number != self.asked or now - self.at >= TWICE:
            self.asked = number
            self.obey()

    def obey(self) -> None:
        """Raise KeyboardInterrupt for Ctrl-C, else SystemExit with the exit code of a process ended by this signal."""
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + int(self.asked or 0))


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Heed both signals while it lasts; in a thread that hears none, and where they are shut out (nohup), as it was."""
    asked = Stopping()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in HEEDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, asked.ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
