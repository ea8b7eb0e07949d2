"""Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HEEDED = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """``asked``: the number of the signal that asked to stop, or None."""

    asked: int | None = None

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; obey the second at once."""
        first, self.asked = self.asked is None, number
        if not first:
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
