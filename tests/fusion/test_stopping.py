"""A training that is told to stop, by Ctrl-C or as a cluster tells it before it takes the machine away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from command_line import REPOSITORY, heeding
from fusion.checkpoints import steps_saved
from fusion.run import read_log
from fusion.stopping import TWICE, stopping
from fusion.training import resume_run

RARELY = ["steps=400", "validate_every=400", "checkpoint_every=400", "log_every=1", "batch_size=1", "crop=48"]


def started(store: Path, run: Path) -> subprocess.Popen[str]:
    """The real command, when its first step is done."""
    settings = [f"--set={setting}" for setting in RARELY]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "train-teacher", "--store", store, "--recipe", "tiny", "--out", run, *settings],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding,
    )
    until = time.monotonic() + 100
    while not (run / "log.jsonl").is_file() or not read_log(run):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_its_step_is_saved_first(store: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = started(store, tmp_path / "run")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    (step,) = steps_saved(tmp_path / "run")
    assert 1 <= step < 400 and f"saved at step {step} of 400; a resumed run goes on from there" in said
    assert "Traceback" not in said
    assert resume_run(tmp_path / "run", minutes=1e-9).step == step + 1


@pytest.fixture
def heeded() -> Iterator[None]:
    """Ctrl-C as in a terminal: a script's job in the background is told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.usefixtures("heeded")
def test_a_second_signal_is_obeyed_at_once(number: signal.Signals, raised: type[BaseException]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stopping() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # `timeout` sends it twice, and means one
        assert asked.asked == signal.SIGTERM
        time.sleep(TWICE)
        with pytest.raises(raised) as caught:
            os.kill(os.getpid(), number)
            time.sleep(1)
    assert getattr(caught.value, "code", 143) == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_and_a_signal_that_is_shut_out_are_left_as_they_are() -> None:
    def in_a_thread() -> None:
        with stopping() as asked:
            assert asked.asked is None

    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_a_thread).result()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.asked is None
    finally:
        signal.signal(signal.SIGINT, before)
