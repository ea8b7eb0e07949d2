"""Validation: its numbers are of the pictures and weights that are kept, whatever the size of the pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.catalog import NETWORKS
from fusion.checkpoints import load_checkpoint
from fusion.network import FusionNetwork, NetworkConfig
from fusion.objective import Objective
from fusion.reader import open_pairs
from fusion.recipe import load_recipe
from fusion.run import read_log
from fusion.score import score
from fusion.training import start_run
from fusion.validation import validate
from fusion.weights import load_weights
from pipeline.store import Store

FAST = ["steps=4", "batch_size=2", "crop=48", "validate_every=2", "log_every=1", "shares_every=4", "validation_crop=48"]
SMALL = NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=512)


def load_checkpoint_model(run: Path) -> dict[str, torch.Tensor]:
    """The network's own weights in the newest checkpoint, without the average."""
    checkpoint = load_checkpoint(run)
    assert checkpoint is not None
    return {name.removeprefix("network."): value for name, value in checkpoint.tensors["model"].items()}


def test_validation_tells_what_the_text_is_worth(store: Path) -> None:
    """A network that reads text is also judged with other pairs' texts; a student is not."""
    recipe = load_recipe("tiny", "teacher", [*FAST, "validation_share=0.25"])
    _, held = open_pairs(Store.open(store), recipe)
    torch.manual_seed(0)
    teacher = Objective(FusionNetwork(SMALL), {"intensity": 1.0})
    metrics = validate(teacher, [held], 48, torch.device("cpu"), 0, None)
    differ = len({tuple(row) for row in held.texts.tolist()}) > 1
    assert differ and metrics["loss_other_text"] != metrics["loss"]
    student = Objective(NETWORKS["nano"].build(), {"intensity": 1.0})
    assert "loss_other_text" not in validate(student, [held], 48, torch.device("cpu"), 0, None)


def test_validation_scores_the_fused_image_with_its_sources(store: Path) -> None:
    _, held = open_pairs(Store.open(store), load_recipe("tiny", "teacher", [*FAST, "validation_share=0.25"]))
    network, alone = NETWORKS["nano"].build().eval(), held.subset([0])
    metrics = validate(Objective(network, {"intensity": 1.0}), [alone], 48, torch.device("cpu"), 0, None)
    batch = alone.centre(0, 48)
    with torch.no_grad():
        images = batch.visible, batch.infrared, network(batch.visible, batch.infrared)
    visible, infrared, fused = (np.rint(image[0].clamp(0, 1).numpy() * 255).astype(np.uint8) for image in images)
    expected = score(visible.transpose(1, 2, 0), infrared[0], fused.transpose(1, 2, 0), names=["Qabf", "VIF", "SSIM"])
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_validation_is_of_the_averaged_weights_that_are_saved(store: Path, tmp_path: Path) -> None:
    """They stay far behind the network's own here; the numbers beside them are theirs, of the newest and of the best."""
    recipe = load_recipe("nano", "student", [*FAST, "warmup=0", "lr=0.02", "ema=0.999"])
    start_run(recipe, [store], tmp_path / "run")
    _, held = open_pairs(Store.open(store), recipe)
    own = load_checkpoint_model(tmp_path / "run")
    for folder in (tmp_path / "run", tmp_path / "run" / "best"):
        weights = load_weights(folder)
        told = weights.config["metrics"]
        metrics = validate(Objective(weights.network, {"intensity": 1.0}), [held], 48, torch.device("cpu"), 0, None)
        assert {name: told[name] for name in ("Qabf", "SSIM")} == pytest.approx(
            {n: metrics[n] for n in ("Qabf", "SSIM")}
        )
    state = load_weights(tmp_path / "run").network.state_dict()
    assert max(float((state[name] - value).abs().max()) for name, value in own.items()) > 1e-3


@pytest.mark.parametrize(("name", "stage"), [("tiny", "teacher"), ("edge", "student")])
def test_pairs_smaller_than_any_window_are_trained_on_and_validated(
    new_store: Callable[..., Path], tmp_path: Path, name: str, stage: str
) -> None:
    """VIF asks for 41 pixels, SSIM for 11: smaller pairs are mirrored at their border, as they are for training."""
    store = new_store(tmp_path, pairs=3, size=(9, 30))
    settings = [*FAST, "network=nano", "steps=1", "validate_every=1"] if stage == "student" else [*FAST, "steps=1"]
    start_run(load_recipe(name, stage, settings), [store], tmp_path / "run")
    (metrics,) = [record["validation"] for record in read_log(tmp_path / "run") if "validation" in record]
    assert np.isfinite(list(metrics.values())).all() and {"loss", "VIF", "SSIM"} <= metrics.keys()
