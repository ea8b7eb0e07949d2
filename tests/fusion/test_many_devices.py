"""`accelerate launch` on two CPU processes against one process: the same samples in the same order, the same losses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.reader import open_pairs
from fusion.recipe import load_recipe
from fusion.run import read_log
from fusion.stream import StreamReader
from fusion.training import start_run
from fusion.weights import load_weights
from pipeline.errors import InputError
from pipeline.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = ["steps=5", "batch_size=4", "crop=48", "accumulation=2", "validate_every=5", "log_every=1", "shares_every=99", "ema=0"]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(processes: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command under accelerate's launcher; with no GPU the processes talk by gloo."""
    options = ["--multi_gpu", f"--num_processes={processes}", "--num_machines=1", "--mixed_precision=no"]
    options += ["--dynamo_backend=no", f"--main_process_port={free_port()}"]
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "cli", *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.mark.parametrize("reader", ["indexed", pytest.param("stream", marks=pytest.mark.slow)])
def test_two_processes_see_what_one_sees(store: Path, tmp_path: Path, reader: str) -> None:
    settings = [f"--set={setting}" for setting in [*SETTINGS, f"reader={reader}"]]
    out = tmp_path / "two"
    done = launch(2, "distill", "--store", store, "--recipe", "nano", "--teacher", "none", "--out", out, *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("step 5 of 5") == 1  # one process speaks
    two = [record for record in read_log(out) if "loss" in record]
    assert [len(record["keys"]) for record in two] == [4] * 5
    if reader == "stream":  # every process has shards of its own, so only the number of steps is the same
        return
    start_run(load_recipe("nano", "student", [*SETTINGS, f"reader={reader}"]), [store], tmp_path / "one")
    one = [record for record in read_log(tmp_path / "one") if "loss" in record]
    assert [record["keys"] for record in one] == [record["keys"] for record in two]
    for alone, shared in zip(one, two, strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert shared["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
    first, second = (load_weights(tmp_path / name).network.state_dict() for name in ("one", "two"))
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-4


@pytest.mark.parametrize("shuffle", ["false", "true"])
def test_each_process_streams_shards_of_its_own(store: Path, shuffle: str) -> None:
    """Between them they read the store once before either begins again."""
    settings = load_recipe("tiny", "teacher", ["crop=48", "batch_size=2", "validation_share=0", f"shuffle={shuffle}"])
    training, _ = open_pairs(Store.open(store), settings)
    first_time: list[str] = []
    for rank in (0, 1):
        own: list[str] = []
        for parts in StreamReader([training], settings, rank, 2).steps(0, 8):  # one pair a step for each process
            ((key,),) = [batch.keys for batch in parts]
            if key in own:
                break
            own.append(key)
        first_time += own
    assert sorted(first_time) == sorted(row.key for row in training.rows)


def test_accumulated_parts_change_nothing_but_memory(store: Path, tmp_path: Path) -> None:
    runs = []
    for parts in (1, 4):
        recipe = load_recipe("nano", "student", [*SETTINGS, f"accumulation={parts}"])
        start_run(recipe, [store], tmp_path / str(parts))
        runs.append([record["loss"] for record in read_log(tmp_path / str(parts)) if "loss" in record])
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path) -> None:
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 3))
    with pytest.raises(InputError, match="batch_size 4 cannot be shared by 3 processes"):
        start_run(load_recipe("nano", "student", SETTINGS), [store], tmp_path / "run")
