"""Which host this is, and whether another process of it is still there."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
NAMESPACE = Path("/proc/self/ns/pid")


@cache
def this_host() -> str:
    """A name under which process numbers mean the same: host, boot and namespace of process numbers, where they are told.

    Containers and machines may share a host's name; what is process 7 in one of them is another one elsewhere, or none.
    """
    parts = [socket.gethostname()]
    try:
        parts += [BOOT.read_text().strip(), "".join(filter(str.isdigit, str(NAMESPACE.readlink())))]
    except OSError:
        return parts[0]
    return "-".join(parts)


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
