"""Where the repository is, and the type of the fixture that runs the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SHIM = REPOSITORY / "tests" / "torchvision_shim"
Run = Callable[..., "subprocess.CompletedProcess[str]"]
