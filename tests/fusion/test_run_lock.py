"""Two processes at one run: the second is told so, and the first loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion.checkpoints import steps_saved
from fusion.recipe import load_recipe
from fusion.training import resume_run, start_run
from pipeline.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = ["batch_size=2", "crop=48", "pictures=0", "validate_every=100000", "checkpoint_every=1", "validation_crop=64"]


def training_in_another_process(store: Path, run: Path) -> subprocess.Popen[bytes]:
    """A real run without an end, as soon as its first checkpoint is there."""
    settings = [f"--set={setting}" for setting in [*SHORT, "steps=100000"]]
    arguments = [
        "distill",
        "--teacher",
        "none",
        "--recipe",
        "nano",
        "--store",
        str(store),
        "--out",
        str(run),
        *settings,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "--quiet", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 200
    while not steps_saved(run):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"no checkpoint: {process.communicate()[1].decode()[-2000:]}")
        time.sleep(0.02)
    return process


def test_a_run_is_written_by_one_process(store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = training_in_another_process(store, run)
    try:
        with pytest.raises(InputError, match="another process is training this run"):
            resume_run(run)
        with pytest.raises(InputError, match="another process is training this run"):
            start_run(load_recipe("nano", "student", SHORT), [store], run, overwrite=True)
        before = max(steps_saved(run))
        until = time.monotonic() + 60
        while max(steps_saved(run), default=0) <= before and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None and max(steps_saved(run)) > before, "the first no longer trains"
    finally:
        process.kill()
        process.wait()
    assert resume_run(run, minutes=1e-9).step > before, "what a killed process held stays held"
    assert resume_run(run, minutes=1e-9).step > before + 1, "a run that ended is still held"
