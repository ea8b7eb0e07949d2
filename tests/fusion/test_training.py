"""The loop: what it leaves, and how it stops."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cli
from fusion.assembly import given_weights
from fusion.network import NetworkConfig
from fusion.objective import Objective
from fusion.recipe import load_recipe
from fusion.run import Origin, read_log, write_origin
from fusion.training import resume_run, start_run
from fusion.weights import load_weights, read_config
from pipeline.console import set_quiet
from pipeline.errors import InputError, ManifestError, TrainingError, WeightsError
from pipeline.store import Store

FAST = ["steps=4", "batch_size=2", "crop=48", "validate_every=2", "log_every=1", "shares_every=4", "validation_crop=48"]
SMALL = NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=512)


@pytest.fixture(scope="module")
def run(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the nano network."""
    out = tmp_path_factory.mktemp("runs") / "nano"
    start_run(load_recipe("nano", "student", FAST), [store], out)
    return out


def test_a_run_leaves_weights_config_card_log_and_pictures(run: Path, store: Path) -> None:
    weights = load_weights(run)
    training = weights.config["training"]
    assert training["stores"][0]["digest"] == Store.open(store).digest()
    assert training["recipe"]["steps"] == 4 and training["versions"]["torch"] == torch.__version__
    card = (run / "README.md").read_text()
    assert "7 training pairs of the split `train`" in card and "| Qabf |" in card
    records = read_log(run)
    steps = [record for record in records if "loss" in record]
    assert [record["step"] for record in steps] == [1, 2, 3, 4]
    for record in steps:
        assert record["loss"] == pytest.approx(sum(record["terms"].values()), rel=1e-5)
        assert {"lr", "images_per_second", "data_wait", "gradient_norm"} <= record.keys() and len(record["keys"]) == 2
    assert sum(steps[-1]["shares"].values()) == pytest.approx(1)
    checks = [record["validation"] for record in records if "validation" in record]
    assert len(checks) == 2 and {"loss", "Qabf", "VIF", "SSIM"} <= checks[0].keys()
    with Image.open(run / "pictures/step-00000004.png") as strip:
        assert strip.size == (3 * 48 + 2 * 4, 48)
    best = min(checks, key=lambda metrics: metrics["loss"])
    assert read_config(run / "best")["metrics"] == best
    assert not list(run.rglob("*.pt")) and not list(run.rglob("*.pkl")) and not list(run.rglob("*.bin"))


def test_the_strip_shows_the_teacher_between_sources_and_student(run: Path, store: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano-distilled", "student", [*FAST, "steps=2"])
    start_run(recipe, [store], tmp_path / "run", teachers=[run])
    assert "output" in read_log(tmp_path / "run")[0]["terms"]
    with Image.open(tmp_path / "run/pictures/step-00000002.png") as strip:
        assert strip.size == (4 * 48 + 3 * 4, 48)
        fused = np.asarray(strip)[:, 104:152]
    assert fused.std() > 5  # a picture, not a blank


def test_training_makes_the_loss_smaller(store: Path, tmp_path: Path) -> None:
    terms = [f"loss.edge.{name}=0" for name in ("qabf", "vif", "ssim")]  # what they can reach hides what is learnt
    settings = [*FAST, *terms, "steps=16", "validate_every=4", "warmup=0", "ema=0", "log_every=8", "shares_every=99"]
    start_run(load_recipe("nano", "student", settings), [store], tmp_path / "run")
    losses = [record["validation"]["loss"] for record in read_log(tmp_path / "run") if "validation" in record]
    assert losses[-1] < 0.9 * losses[0]


def test_an_unfinished_teacher_is_noted(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("tiny", "teacher", [*FAST, "steps=2", "validate_every=1"])
    start_run(recipe, [store], tmp_path / "teacher", minutes=1e-9)
    start_run(load_recipe("tiny", "teacher", [*FAST, "steps=1"]), [store], tmp_path / "whole")
    set_quiet(False)
    capsys.readouterr()
    given_weights(None, [tmp_path / "teacher"], 1)
    assert "stands at step 1 of 2" in " ".join(capsys.readouterr().err.split())
    given_weights(None, [tmp_path / "whole"], 1)
    given_weights(None, [tmp_path / "teacher" / "best"], 1)
    assert not capsys.readouterr().err


def test_a_teacher_of_another_text_width_is_refused_with_both(
    new_store: Callable[..., Path], store: Path, tmp_path: Path
) -> None:
    narrow = new_store(tmp_path, pairs=3, width=64, name="narrow")
    recipe = load_recipe("tiny", "teacher", [*FAST, "steps=1", "validation_share=0"])
    start_run(recipe, [narrow], tmp_path / "teacher")
    assert load_weights(tmp_path / "teacher").network.config.text_width == 64
    with pytest.raises(WeightsError, match=r"text embeddings of width 64, but .* holds width 512"):
        start_run(load_recipe("tiny", "student", FAST), [store], tmp_path / "student", teachers=[tmp_path / "teacher"])
    with pytest.raises(InputError, match=r"width 512, .* of width 64"):
        start_run(load_recipe("nano", "student", FAST), [store, narrow], tmp_path / "mixed")
    assert not (tmp_path / "student").exists() and not (tmp_path / "mixed").exists()


def test_an_exploding_loss_stops_with_the_keys_of_its_batch(store: Path, tmp_path: Path) -> None:
    settings = [*FAST, "weights={intensity: 1e38}", "loss.intensity=1", "clip=0", "warmup=0", "steps=9"]
    with pytest.raises(TrainingError, match=r"the loss is nan at step 2 .*lower lr"):
        start_run(load_recipe("nano", "student", settings), [store], tmp_path / "run")
    (saved,) = (tmp_path / "run").glob("stopped-*.json")
    stopped = json.loads(saved.read_text())
    assert stopped["step"] == 2 and len(stopped["keys"]) == 2
    assert not (tmp_path / "run/model.safetensors").exists()


@pytest.mark.parametrize("last", ["steps=1", "checkpoint_every=1", "validate_every=1"])
def test_weights_that_are_no_numbers_are_never_saved(store: Path, tmp_path: Path, last: str) -> None:
    """The loss of the first step is a number, its gradient is not: it shows at step 2, where it may be too late."""
    settings = [*FAST, "weights={intensity: 1e38}", "loss.intensity=1", "clip=0", "warmup=0", last]
    with pytest.raises(TrainingError, match=r"after step 1; nothing of it is saved\. .*lower lr \(.*\), or set clip$"):
        start_run(load_recipe("nano", "student", settings), [store], tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_running_out_of_memory_gives_advice(monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Objective, "forward", full)
    with pytest.raises(TrainingError, match=r"out of memory with batch_size 4, .*--set accumulation=2 \(same result"):
        start_run(load_recipe("nano", "student", [*FAST, "batch_size=4"]), [store], tmp_path / "run")


def test_a_resumed_run_refuses_another_teacher(run: Path, store: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "teacher")
    recipe = load_recipe("nano-distilled", "student", FAST)
    start_run(recipe, [store], tmp_path / "run", teachers=[tmp_path / "teacher"], minutes=1e-9)
    start_run(load_recipe("nano", "student", [*FAST, "seed=9"]), [store], tmp_path / "teacher", overwrite=True)
    with pytest.raises(TrainingError, match="the teacher's weights are"):
        resume_run(tmp_path / "run")


def test_bf16_trains_with_fp32_losses(store: Path, tmp_path: Path) -> None:
    start_run(load_recipe("nano", "student", [*FAST, "precision=bf16", "steps=2"]), [store], tmp_path / "run")
    weights = load_weights(tmp_path / "run").network.state_dict()
    assert all(value.dtype == torch.float32 for value in weights.values())


@pytest.mark.slow
@pytest.mark.timeout(2400)  # compiling takes a minute, and ten for the attention network
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("network", ["nano", "student-tiny"])
def test_a_compiled_run_has_the_same_losses_and_names(store: Path, tmp_path: Path, network: str) -> None:
    runs = [tmp_path / "plain", tmp_path / "compiled"]
    for out in runs:
        changes = [f"network={network}", f"compile={out.name == 'compiled'}"]
        start_run(load_recipe("nano", "student", [*FAST, *changes]), [store], out)
    plain, compiled = ([record["loss"] for record in read_log(out) if "loss" in record] for out in runs)
    assert compiled == pytest.approx(plain, rel=1e-3)
    first, second = (load_weights(out).network.state_dict() for out in runs)
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 trains on a GPU")
def test_fp16_is_refused_on_a_cpu(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision fp16 needs a GPU; on a CPU use bf16 or fp32"):
        start_run(load_recipe("nano", "student", [*FAST, "precision=fp16"]), [store], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trackers_are_told_every_logged_step(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    start_run(load_recipe("nano", "student", [*FAST, "trackers=[tensorboard]"]), [store], tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_an_unknown_or_missing_tracker_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tracker 'tensorbored'"):
        start_run(load_recipe("nano", "student", [*FAST, "trackers=[tensorbored]"]), [store], tmp_path / "run")


def test_a_whole_training_imports_no_language_model(store: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from fusion.recipe import load_recipe
from fusion.training import start_run
start_run(load_recipe("nano", "student", {[*FAST, "degrade=0.5"]!r}), [{str(store)!r}], Path({str(tmp_path / "run")!r}))
heavy = [name for name in ("transformers", "open_clip", "vllm", "torchvision") if name in sys.modules]
assert not heavy, heavy
"""
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_commands_name_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    def refused(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fusioncli", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code == 2
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    assert "--dataset NAME" in refused("train-teacher")
    assert "no teacher there" in refused("distill", "--store", str(store), "--recipe", "tiny")
    assert "a student's run; go on with `fusioncli distill" in refused(
        "train-teacher", "--resume", str(student_run(store))
    )


def student_run(store: Path) -> Path:
    """The description of a student's run, not trained yet."""
    out = store.parent / "described"
    recipe = load_recipe("nano", "student")
    write_origin(out, Origin(recipe=recipe, stores=(), teachers=(), versions={}, revision=None))
    return out


def test_runs_on_folders_of_ones_own_are_called_as_the_store_is(
    store: Path, new_store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores of ``caption --pairs`` share a data set's name; a student must not learn from the other's teacher."""
    monkeypatch.chdir(tmp_path)
    mine = new_store(tmp_path, pairs=2, name="mine")
    words = ["train-teacher", "--store", str(store), "--recipe", "tiny", "--set", "steps=1", "--set", "batch_size=2"]
    done = CliRunner().invoke(cli.app, [*words, "--set", "crop=48"])
    assert done.exit_code == 0 and (tmp_path / "runs" / "store-teacher" / "model.safetensors").is_file(), done.output
    done = CliRunner().invoke(cli.app, ["distill", "--store", f"{mine}/", "--recipe", "tiny"])
    assert isinstance(done.exception, InputError) and "runs/mine-teacher: no teacher there" in str(done.exception)


def test_a_loss_of_a_teacher_alone_needs_one(store: Path, tmp_path: Path) -> None:
    alone = [f"loss.{name}=0" for name in ("intensity", "consistency", "gradient", "ssim", "colour", "features")]
    with pytest.raises(ManifestError, match="all terms of its loss come from a teacher, and there is none"):
        start_run(load_recipe("tiny", "student", [*FAST, *alone, "loss.output=1"]), [store], tmp_path / "run")
