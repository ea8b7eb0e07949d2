"""Kills a captioning process at every one of its file operations, resumes, and compares. Run by test_durability.py.

Lives are forks of this process, so that a life costs no start of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.console import set_quiet
from pipeline.sources import find_source
from pipeline.store import Store
from pipeline.verify import verify


def arm(point: int) -> None:
    """This process kills itself just before its file operation number ``point``."""
    left = [point]

    def deadly(operation: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*words, **options)

        return run

    for place, name in ((os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink")):
        setattr(place, name, deadly(getattr(place, name)))


def work(store: Path, folders: tuple[Path, Path]) -> None:
    """Caption three pairs in two shards."""
    options = CaptionOptions(store=str(store), captioner="scripted", embedder="hashing", shard_size=2, workers=1)
    caption_pairs(options, find_source(None, folders, None, None, None))


def live(store: Path, folders: tuple[Path, Path], point: int | None) -> int:
    """One life of a captioning process; the signal that ended it, else 0."""
    child = os.fork()
    if not child:
        if point is not None:
            arm(point)
        code = 1
        try:
            work(store, folders)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the life with point {point} failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def contents(store: Path) -> dict[str, bytes]:
    """Every file but the logs."""
    files = [path for path in store.rglob("*") if path.is_file() and "logs" not in path.relative_to(store).parts]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def main() -> None:
    """Print how many points there were and at which of them the resumed store was another."""
    set_quiet(True)
    home, folders = Path(sys.argv[1]), (Path(sys.argv[2]), Path(sys.argv[3]))
    work(home / "calm", folders)  # in this process, so that every module is loaded before the first fork
    calm = contents(home / "calm")
    point, bad = 0, []
    while live(home / "killed", folders, point):
        live(home / "killed", folders, None)
        if contents(home / "killed") != calm:
            bad.append(point)
        shutil.rmtree(home / "killed")
        point += 1
    whole = not verify(Store.open(home / "calm")).problems
    print(json.dumps({"points": point, "bad": bad, "whole": whole}))


if __name__ == "__main__":
    main()
