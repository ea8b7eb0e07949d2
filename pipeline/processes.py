"""Whether another process of this host is still there."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Whether a process has this number. True where it cannot be told, as on Windows: there the question is a signal."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True
