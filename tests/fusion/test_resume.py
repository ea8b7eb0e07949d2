"""Exact resume: N steps equal k steps, kill -9, resume and the rest, bit for bit on a CPU, teacher and student."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import cli
from fusion.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, steps_saved
from fusion.loop import Loop
from fusion.recipe import Recipe, load_recipe
from fusion.run import read_log
from fusion.training import resume_run, start_run
from pipeline.errors import InputError, StoreError, TrainingError, WeightsError

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["steps=2", "batch_size=1", "crop=48", "pictures=1", "validate_every=1", "checkpoint_every=1", "log_every=1", "shares_every=9", "validation_crop=64", "keep_checkpoints=9"]  # fmt: skip
TIMINGS = ("images_per_second", "data_wait", "seconds")


def arguments(stage: str, store: Path, out: Path, teacher: Path | None) -> list[str]:
    command = ["train-teacher"] if stage == "teacher" else ["distill", "--teacher", str(teacher)]
    settings = [f"--set={setting}" for setting in SMALL]
    return ["--quiet", *command, "--store", str(store), "--recipe", "tiny", "--out", str(out), *settings]


def start_and_kill(stage: str, store: Path, out: Path, teacher: Path | None, step: int) -> None:
    """Run the real command and kill it without warning as soon as the checkpoint of ``step`` is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments(stage, store, out, teacher)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 200
    while step not in steps_saved(out):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"no checkpoint of step {step}: {process.communicate()[1].decode()[-2000:]}")
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_same_run(one: Path, other: Path) -> None:
    last = f"checkpoints/step-{2:08d}"
    names = ["model.safetensors", "best/model.safetensors"]
    names += [
        f"{last}/{name}" for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
    ]
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    logs = [[{k: v for k, v in line.items() if k not in TIMINGS} for line in read_log(run)] for run in (one, other)]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def teacher(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher trained without interruption."""
    run = tmp_path_factory.mktemp("runs") / "teacher"
    assert start_run(load_recipe("tiny", "teacher", SMALL), [store], run).finished
    return run


def test_a_killed_teacher_ends_with_the_same_bits(store: Path, teacher: Path, tmp_path: Path) -> None:
    start_and_kill("teacher", store, tmp_path / "killed", None, step=1)
    result = resume_run(tmp_path / "killed")
    assert result.finished and result.step == 2
    assert_same_run(teacher, tmp_path / "killed")


def test_a_killed_student_ends_with_the_same_bits(store: Path, teacher: Path, tmp_path: Path) -> None:
    assert start_run(load_recipe("tiny", "student", SMALL), [store], tmp_path / "whole", teachers=[teacher]).finished
    start_and_kill("student", store, tmp_path / "killed", teacher, step=1)
    assert resume_run(tmp_path / "killed").finished
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    adapters = [name for name in load_checkpoint(tmp_path / "whole").tensors["model"] if "adapters" in name]
    assert len(adapters) == 8
    state = load_checkpoint(tmp_path / "whole").tensors["optimizer"]
    assert all(f"exp_avg/{name}" in state for name in adapters)  # the adapters are in the optimiser


def test_a_checkpoint_that_the_disk_refuses_is_one_sentence(store: Path, teacher: Path, tmp_path: Path) -> None:
    """Room for the weights, not for the optimizer's state, which is twice as large; with room again the run ends alike."""
    room = (teacher / "model.safetensors").stat().st_size * 3 // 2
    run = tmp_path / "full"
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments("teacher", store, run, None)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fusioncli: ") and done.stderr.count("\n") == 1, done.stderr
    assert "checkpoints/step-00000001: File too large" in done.stderr
    assert steps_saved(run) == [] and not list((run / "checkpoints").iterdir())
    assert resume_run(run).finished
    assert_same_run(teacher, run)


def test_a_run_stopped_by_the_clock_goes_on(store: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano", "student", [*SMALL, "batch_size=2", "steps=3"])
    stopped = start_run(recipe, [store], tmp_path / "run", minutes=1e-9)
    assert (stopped.finished, stopped.step) == (False, 1)
    assert resume_run(tmp_path / "run").finished
    assert start_run(recipe, [store], tmp_path / "whole").finished
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_folder_with_a_run_is_not_written_over(store: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano", "student", [*SMALL, "batch_size=2", "steps=1"])
    start_run(recipe, [store], tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run; --resume"):
        start_run(recipe, [store], tmp_path / "run")
    (tmp_path / "run/mine.txt").write_text("keep")
    start_run(recipe, [store], tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/mine.txt").exists()


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_is_replaced_only_by_one_that_can_begin(store: Path, teacher: Path, tmp_path: Path) -> None:
    """Whatever is wrong with the new run, the old one is still there."""
    shutil.copytree(teacher, tmp_path / "run")
    before = files_of(tmp_path / "run")
    nano = load_recipe("nano", "student", [*SMALL, "network=nano"])
    given: list[tuple[Recipe, dict[str, object]]] = [
        (nano, {"start_from": tmp_path / "nothing"}),
        (nano, {"start_from": teacher}),  # another network
        (load_recipe("nano-distilled", "student", SMALL), {"teachers": [tmp_path / "nothing"]}),
        (load_recipe("tiny", "teacher", [*SMALL, "shares=[1,2]"]), {}),
        (load_recipe("tiny", "teacher", [*SMALL, "precision=fp16"]), {}),
    ]
    for recipe, options in given:
        with pytest.raises((InputError, WeightsError)):
            start_run(recipe, [store], tmp_path / "run", overwrite=True, **options)
        assert files_of(tmp_path / "run") == before


def test_a_run_does_not_replace_the_weights_it_is_given(store: Path, teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher, tmp_path / "run")
    before = files_of(tmp_path / "run")
    again, student = load_recipe("tiny", "teacher", SMALL), load_recipe("tiny", "student", SMALL)
    for place in ("run", "run/best"):
        with pytest.raises(
            InputError, match=r"run: the new run would replace the weights it is given, .*another --out"
        ):
            start_run(again, [store], tmp_path / "run", start_from=tmp_path / place, overwrite=True)
        with pytest.raises(InputError, match="would replace the weights it is given"):
            start_run(student, [store], tmp_path / "run", teachers=[tmp_path / place], overwrite=True)
    (tmp_path / "run/training.json").unlink()  # weights alone, no run: not written over either
    for overwrite, reason in ((True, "would replace the weights it is given"), (False, "made by no training")):
        with pytest.raises(InputError, match=reason):
            start_run(again, [store], tmp_path / "run", start_from=tmp_path / "run", overwrite=overwrite)
    assert files_of(tmp_path / "run") == {name: content for name, content in before.items() if name != "training.json"}


def test_a_run_of_another_store_content_is_not_resumed(new_store: Callable[..., Path], tmp_path: Path) -> None:
    store = new_store(tmp_path, pairs=3)
    recipe = load_recipe("nano", "student", [*SMALL, "batch_size=2", "steps=2"])
    start_run(recipe, [store], tmp_path / "run", minutes=1e-9)
    marker = next((store / "priors/text").glob("shard-*.json"))
    told = marker.read_text()
    marker.write_text(told.replace('"dropped_events": 0', '"dropped_events": 1'))
    assert marker.read_text() != told
    with pytest.raises(StoreError, match="is not the one this run was started with"):
        resume_run(tmp_path / "run")


def drawn(step: int, value: float) -> Checkpoint:
    tensors = {group: {"w": torch.full((2,), value)} for group in ("model", "ema", "optimizer")}
    return Checkpoint(step=step, tensors=tensors, state={"best": None, "running": None, "scaler": None})


@pytest.mark.parametrize("lacking", ["optimizer", "ema", "best", "running", "scaler", "groups", "state"])
def test_a_checkpoint_that_lacks_something_is_called_damaged(tmp_path: Path, lacking: str) -> None:
    path = save_checkpoint(tmp_path, drawn(1, 1.0), keep=2) / "state.json"
    said = json.loads(path.read_text())
    said["groups"] = [group for group in said["groups"] if group != lacking]
    said["state"].pop(lacking, None)
    path.write_text(json.dumps({key: None if key == lacking else value for key, value in said.items()}))
    with pytest.raises(TrainingError, match=r"step-00000001: a damaged checkpoint .* go on from the one before"):
        load_checkpoint(tmp_path)


def test_a_log_cut_within_a_letter_does_not_stop_a_run(store: Path, teacher: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(teacher, run)
    lines = read_log(run)
    with (run / "log.jsonl").open("ab") as file:
        file.write('{"step": 2, "keys": ["é'.encode()[:-1])
    assert read_log(run) == lines
    assert resume_run(run).finished and read_log(run) == lines


def test_checkpoints_are_whole_and_limited(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, drawn(step, float(step)), keep=2)
    assert steps_saved(tmp_path) == [2, 3]
    (tmp_path / "checkpoints/.unfinished-0").mkdir()  # what a kill in the middle of writing leaves
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 3 and loaded.tensors["model"]["w"].tolist() == [3, 3]
    assert {path.suffix for path in (tmp_path / "checkpoints").rglob("*.*") if path.is_file()} == {
        ".json",
        ".safetensors",
    }
    save_checkpoint(tmp_path, drawn(3, 7.0), keep=2)  # it was there already: by a run that went on from an older one
    assert steps_saved(tmp_path) == [2, 3] and not list((tmp_path / "checkpoints").glob(".*"))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.tensors["model"]["w"].tolist() == [7, 7]
    (tmp_path / "checkpoints/step-00000003/model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"step-00000003: a damaged checkpoint .* go on from the one before"):
        load_checkpoint(tmp_path)


def test_what_is_not_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no training run here"):
        resume_run(tmp_path)
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(TrainingError, match="damaged"):
        resume_run(tmp_path)
    (tmp_path / "training.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(TrainingError, match="run format 99"):
        resume_run(tmp_path)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--out", "elsewhere"), "--out"),
        (("--store", "other", "--dataset", "msrs"), "--dataset, --store"),
        (("--recipe", "edge", "--start-from", "edge", "--overwrite"), "--recipe, --start-from, --overwrite"),
        (("--teacher", "none"), "--teacher"),
    ],
)
def test_a_resumed_run_takes_nothing_that_it_was_started_with(
    teacher: Path, words: tuple[str, ...], named: str
) -> None:
    command = "distill" if "--teacher" in words else "train-teacher"
    done = CliRunner().invoke(cli.app, [command, "--resume", str(teacher), *words])
    assert isinstance(done.exception, InputError) and str(done.exception).startswith(f"{named}: ")


@pytest.mark.parametrize("every", [1, 9])
def test_an_end_between_the_last_checkpoint_and_its_model_is_mended_by_resuming(
    store: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    write = Loop._write_model

    def cut_off(self: Loop, folder: Path, step: int) -> None:
        if folder == tmp_path / "cut" and step == 2:
            raise KeyboardInterrupt
        write(self, folder, step)

    recipe = load_recipe("tiny", "teacher", [*SMALL, f"checkpoint_every={every}"])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_write_model", cut_off)
        start_run(recipe, [store], tmp_path / "cut")
    assert resume_run(tmp_path / "cut").finished
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (teacher / "model.safetensors").read_bytes()
    told, expected = (json.loads((run / "config.json").read_text()) for run in (tmp_path / "cut", teacher))
    assert (told["step"], told["metrics"]) == (expected["step"], expected["metrics"]) and told["step"] == 2
