"""Who is working on which shard: a claim is a file made exclusively, kept fresh, and taken back when its owner is gone."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.place import Place

HEARTBEAT = 15.0  # seconds between two signs of life
STALE = 120.0  # seconds without one after which an owner on another machine counts as gone


@contextmanager
def claim(place: Place, prior: str, shard: int) -> Iterator[bool]:
    """Yield whether this process now owns the shard. Remote stores have no claims: ranks divide the shards there."""
    if not place.is_local:
        yield True
        return
    path = Path(place.path(f"logs/claims/{prior}-{shard:06d}.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _take(path):
        yield False
        return
    stop = threading.Event()
    thread = threading.Thread(target=_keep_fresh, args=(path, stop), daemon=True)
    thread.start()
    try:
        yield True
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def _take(path: Path) -> bool:
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            if not _is_stale(path):
                return False
            # Only one of several finders succeeds in renaming the stale claim away.
            grave = path.with_suffix(f".stale-{os.getpid()}")
            try:
                path.rename(grave)
            except FileNotFoundError:
                continue
            grave.unlink()
            continue
        with os.fdopen(descriptor, "w") as file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
        return True
    return False


def _is_stale(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        owner = json.loads(path.read_text())
        if owner["host"] == socket.gethostname():
            return not _alive(int(owner["pid"]))
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return path.exists() and time.time() - path.stat().st_mtime > 5  # killed between making and writing it
    return age > STALE


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _keep_fresh(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
