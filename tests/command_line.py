"""Where the repository is, and the type of the fixture that runs the command line."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHIM = REPOSITORY / "tests" / "torchvision_shim"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def heeding() -> None:
    """For ``preexec_fn``: heed Ctrl-C and a closed terminal, which a script's jobs in the background are told to ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
