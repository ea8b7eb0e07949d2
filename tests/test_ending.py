"""A command that is ended by a signal, as by `timeout`, systemd or a closed terminal, leaves nothing half written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import REPOSITORY, heeding
from fusion.folders import LOG, read_log

PAIRS = 30
BEGUN = 12  # pairs that may have been begun when the first is written: decoded ahead, fused, encoded
SIDE = 1200


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Pairs of noise, which take a PNG encoder long."""
    drawn = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    for kind in ("vi", "ir"):
        (tmp_path / kind).mkdir()
        for index in range(PAIRS):
            Image.fromarray(np.roll(drawn, index, axis=1)).save(tmp_path / kind / f"{index}.png", compress_level=0)
    return tmp_path


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")] if folder.is_dir() else []


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_folder_is_left_with_whole_images_alone(noise: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "fuse", "vi", "ir", "--out", "out", "--weights", "nano", "--align", "none"],
        cwd=noise, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True, preexec_fn=heeding,
    )  # fmt: skip
    until = time.monotonic() + 100
    while not hidden(noise / "out"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == f"fusioncli: ended by {number.name}" and "Traceback" not in said
    assert hidden(noise / "out") == []
    done = sorted((noise / "out").glob("*.png"))
    assert len(done) < BEGUN, "pairs whose turn had not come were fused before the end"
    for path in done:
        with Image.open(path) as image:
            image.load()
    log = read_log(noise / "out" / LOG)
    assert sorted(log) == [path.stem for path in done], "what was finished stays finished"


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
def test_a_signal_that_is_shut_out_stays_so() -> None:
    """As by nohup."""
    lines = "import signal, cli; signal.signal(signal.SIGHUP, signal.SIG_IGN); cli.heed_endings(); signal.raise_signal(signal.SIGHUP)"
    done = subprocess.run([sys.executable, "-c", lines], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == 0
