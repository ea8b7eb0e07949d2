"""Several teachers, one for each store: whose output a pair is held to, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import cli
from fusion.batch import collate
from fusion.catalog import NETWORKS
from fusion.distillation import Distillation
from fusion.network import FusionNetwork, NetworkConfig
from fusion.reader import open_pairs
from fusion.recipe import load_recipe
from fusion.run import read_origin
from fusion.training import resume_run, start_run
from fusion.weights import load_weights, save_weights
from pipeline.errors import InputError, WeightsError
from pipeline.store import Store

FAST = ["steps=2", "batch_size=2", "crop=48", "validate_every=2", "log_every=1", "shares_every=9", "validation_crop=48"]


class First(nn.Module):
    """A teacher whose answer is the first source."""

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        return visible


class Second(nn.Module):
    """A teacher whose answer is the second source."""

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor) -> Tensor:
        return infrared.expand(-1, 3, -1, -1)


@pytest.fixture
def other(new_store: Callable[..., Path], tmp_path: Path) -> Path:
    return new_store(tmp_path, pairs=4, name="other")


def test_each_pair_is_held_to_the_teacher_of_its_store(store: Path, other: Path) -> None:
    recipe = load_recipe("nano", "student", FAST)
    opened = [open_pairs(Store.open(place), recipe, number=number) for number, place in enumerate((store, other))]
    training, held = zip(*opened, strict=True)
    samples = [training[0].sample(0, 0, recipe), training[1].sample(1, 0, recipe), training[0].sample(2, 1, recipe)]
    batch = collate(samples)
    assert batch.store.tolist() == [0, 1, 0] and held[1].centre(0, 48).store.tolist() == [1]
    student = NETWORKS["nano"].build()
    distillation = Distillation([First(), Second()], student, features=False)
    goal, taps = distillation.teach(batch)
    assert taps == []
    torch.testing.assert_close(goal[[0, 2]], batch.visible[[0, 2]])
    torch.testing.assert_close(goal[1], batch.infrared[1].expand(3, -1, -1))
    term = distillation(batch, batch.visible, [], {"output": 2.0})["output"]
    far = np.abs(batch.visible[1].numpy() - batch.infrared[1].numpy()).mean()
    assert term.tolist() == pytest.approx([0, 2 * far, 0], rel=1e-5) and far > 0.01


def test_features_want_a_single_teacher() -> None:
    teachers = [FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=0)) for _ in range(2)]
    with pytest.raises(WeightsError, match="needs a single teacher"):
        Distillation(teachers, teachers[0], features=True)


def test_a_run_shows_records_and_resumes_with_both_teachers(store: Path, other: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_weights(tmp_path / name, NETWORKS["nano"].build(), "a card")
    teachers = ["--teacher", str(tmp_path / "one"), "--teacher", str(tmp_path / "two")]
    run = tmp_path / "run"
    done = distill(store, run, "--store", str(other), *teachers, "--recipe", "nano-distilled")
    assert done.exit_code == 0, done.output
    sums = [load_weights(tmp_path / name).sha256 for name in ("one", "two")]
    assert [teacher["sha256"] for teacher in read_origin(run).teachers] == sums
    card = (run / "README.md").read_text()
    assert all(digest[:16] in card for digest in sums)
    with Image.open(run / "pictures/step-00000002.png") as strip:
        assert strip.size[0] == 4 * 48 + 3 * 4
    assert resume_run(run).finished


def distill(store: Path, out: Path, *words: str) -> Result:
    settings = [word for setting in FAST for word in ("--set", setting)]
    return CliRunner().invoke(cli.app, ["distill", "--store", str(store), *words, *settings, "--out", str(out)])


def test_a_teacher_that_nothing_would_look_at_is_refused(store: Path, tmp_path: Path) -> None:
    refused = distill(store, tmp_path / "run", "--recipe", "nano", "--teacher", "edge")
    assert isinstance(refused.exception, InputError) and not (tmp_path / "run").exists()
    assert "nano has no loss term that looks at a teacher; --set loss.output=2 adds one" in str(refused.exception)
    refused = distill(store, tmp_path / "run", "--recipe", "nano-distilled", "--teacher", "none", "--teacher", "edge")
    assert "--teacher none stands alone" in str(refused.exception) and not (tmp_path / "run").exists()


def test_a_wrong_number_of_teachers_is_one_sentence(store: Path, other: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "one", NETWORKS["nano"].build(), "a card")
    recipe = load_recipe("nano-distilled", "student", FAST)
    with pytest.raises(InputError, match="3 teachers for 2 stores; name one for all of them, or one for each"):
        start_run(recipe, [store, other], tmp_path / "run", teachers=[tmp_path / "one"] * 3)
    assert not (tmp_path / "run").exists()
