"""One process at a time writes into the folder of a run or a benchmark."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from pipeline.errors import InputError

NAME = ".lock"


def hold(folder: Path, doing: str = "training this run") -> BaseFileLock:
    """Hold a folder until ``release()`` or the end of this process, however it ends. Raises InputError where another has it.

    ``doing``: what the other process must then be at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / NAME, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder}: another process is {doing}; stop it first, or choose another --out") from error
    return lock
