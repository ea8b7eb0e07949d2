"""When a loss stops a run, and what a log keeps of a run that was killed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from fusion.assembly import make_accelerator
from fusion.checkpoints import load_checkpoint
from fusion.faults import MEAN_OVER, Seen, check_losses
from fusion.recipe import load_recipe
from fusion.run import LOG, Log, read_log
from fusion.training import start_run
from pipeline.errors import TrainingError

RECIPE = load_recipe("nano", "student", ["warmup=3", "explode=10"])


def check(folder: Path, losses: list[float], running: float | None = None, first: int = 1) -> float | None:
    seen = [
        Seen(step=step, keys=(f"pair-{step}",), loss=torch.tensor(loss))
        for step, loss in enumerate(losses, start=first)
    ]
    return check_losses(make_accelerator(RECIPE, folder), seen, running, RECIPE, folder)


def test_the_running_mean_is_the_same_however_often_it_is_looked_at(tmp_path: Path) -> None:
    losses = [4.0, 2.0, 3.0, 8.0]
    expected = losses[0]
    for loss in losses[1:]:
        expected += (loss - expected) / MEAN_OVER
    assert check(tmp_path, losses) == pytest.approx(expected, rel=1e-6)
    assert check(tmp_path, losses[2:], check(tmp_path, losses[:2]), first=3) == pytest.approx(expected, rel=1e-6)


def test_a_run_counts_every_loss_once(store: Path, tmp_path: Path) -> None:
    fast = ["steps=6", "batch_size=1", "crop=48", "validation_share=0", "pictures=0", "shares_every=99", "log_every=1"]
    start_run(load_recipe("nano", "student", fast), [store], tmp_path / "run")
    losses = [record["loss"] for record in read_log(tmp_path / "run") if "loss" in record]
    expected = losses[0]
    for loss in losses[1:]:
        expected += (loss - expected) / MEAN_OVER
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint is not None and len(losses) == 6
    assert checkpoint.state["running"] == pytest.approx(expected, rel=1e-6)


def test_a_loss_may_be_large_while_the_rate_rises_and_not_after(tmp_path: Path) -> None:
    assert check(tmp_path, [1.0, 500.0, 500.0]) is not None
    assert check(tmp_path, [1.0, 1.0, 1.0, 9.9]) is not None
    with pytest.raises(TrainingError, match=r"the loss is 10\.1 at step 4 \(running mean 1\.0\)"):
        check(tmp_path, [1.0, 1.0, 1.0, 10.1, math.nan])
    (told,) = tmp_path.glob("stopped-step-00000004-*.json")
    saved = json.loads(told.read_text())
    assert (saved["step"], saved["running_mean"], saved["keys"]) == (4, 1.0, ["pair-4"])
    assert float(saved["loss"]) == pytest.approx(10.1)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_any_step(tmp_path: Path, loss: float) -> None:
    with pytest.raises(TrainingError, match="at step 1 "):
        check(tmp_path, [loss])


def test_a_log_forgets_what_came_after_the_checkpoint_and_half_a_line(tmp_path: Path) -> None:
    records = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "validation": {}},
        {"step": 3, "loss": 1.0},
    ]
    lines = [json.dumps(record) for record in records]
    (tmp_path / LOG).write_text("\n".join(lines) + '\n{"step": 1, "lo')
    log = Log(tmp_path, 2)
    assert read_log(tmp_path) == records[:3]
    log.write({"step": 3, "loss": 0.5})
    assert read_log(tmp_path) == [*records[:3], {"step": 3, "loss": 0.5}]
    Log(tmp_path, 0)
    assert read_log(tmp_path) == []
