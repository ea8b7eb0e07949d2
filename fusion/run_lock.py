"""One process at a time writes into the folder of a run."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from pipeline.errors import InputError

NAME = ".lock"


def hold(run: Path) -> BaseFileLock:
    """Hold a run until ``release()`` or the end of this process, however it ends. Raises InputError where another has it."""
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / NAME, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{run}: another process is training this run; stop it first, or choose another --out"
        ) from error
    return lock
