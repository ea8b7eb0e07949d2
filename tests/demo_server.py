"""The demo served by the command itself, from a folder as somebody has it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from command_line import REPOSITORY, heeding
from pipeline.synth import draw_pairs


def until(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there in time"
        time.sleep(0.1)


def furnish(folder: Path, page: Path) -> None:
    """A folder as somebody has it: pairs, a store, a benchmark's page, and files that are wrong."""
    draw_pairs(folder / "pairs", 14, 2, height=96, width=128)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    caption = ["--pairs", "pairs/vi", "pairs/ir", "--store", "stores/mine", "--captioner", "measured"]
    command = [sys.executable, "-m", "cli", "--quiet", "caption", *caption, "--embedder", "hashing", "--workers", "1"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=240)
    (folder / "bench").mkdir()
    shutil.copy(page, folder / "bench" / "index.html")
    (folder / "notes.png").write_text("this is no image")
    (folder / "large.png").write_bytes(bytes(2 * 2**20))


@contextmanager
def running(place: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of ``fusioncli demo`` run in ``place``; what it says goes to ``log`` there.

    Its temporary files lie in ``place / "temporary"``.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (place / "temporary").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "TMPDIR": f"{place}/temporary"}
    command = [sys.executable, "-m", "cli", "demo", "--port", str(port), "--limit", "1", *options]
    with (place / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=place, env=environment, stderr=log, preexec_fn=heeding)

        def up() -> bool:
            assert server.poll() is None, (place / "log").read_text()
            with socket.socket() as attempt:
                return attempt.connect_ex(("127.0.0.1", port)) == 0

        try:
            until(up, 120)
            yield f"http://localhost:{port}", server
        finally:
            server.kill()
            server.wait(30)


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The address of ``fusioncli demo`` run in ``place``; it must end without a traceback."""
    with running(place, "--samples", "pairs/vi", "pairs/ir") as (address, server):
        yield address
        server.send_signal(signal.SIGINT)
        server.wait(30)
    assert "Traceback" not in (place / "log").read_text()
