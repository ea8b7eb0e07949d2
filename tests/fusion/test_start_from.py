"""Going on from trained weights: a run begins with them, and refuses those of another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion import assembly
from fusion.catalog import NETWORKS, build_network
from fusion.recipe import load_recipe
from fusion.run import read_origin
from fusion.training import resume_run, start_run
from fusion.weights import load_weights, save_weights
from pipeline.errors import InputError, TrainingError

STILL = ["network=nano", "steps=1", "batch_size=2", "crop=48", "lr=1e-12", "ema=0", "weight_decay=0", "loss.output=0"]


def saved(folder: Path, name: str = "nano", seed: int = 5) -> Path:
    torch.manual_seed(seed)
    save_weights(folder, NETWORKS[name].build(), "# a network\n")
    return folder


def test_a_run_begins_with_the_given_weights_and_remembers_them(store: Path, tmp_path: Path) -> None:
    """At a learning rate of nearly nothing one step leaves them as they were; fresh ones are others."""
    begun = saved(tmp_path / "begun")
    recipe = load_recipe("nano", "student", STILL)
    start_run(recipe, [store], tmp_path / "on", start_from=begun)
    start_run(recipe, [store], tmp_path / "fresh")
    expected = load_weights(begun)
    for name, value in load_weights(tmp_path / "on").network.state_dict().items():
        torch.testing.assert_close(value, expected.network.state_dict()[name], atol=1e-6, rtol=0)
    fresh = load_weights(tmp_path / "fresh").network.state_dict()["stem.weight"]
    assert (fresh - expected.network.state_dict()["stem.weight"]).abs().max() > 0.01
    assert read_origin(tmp_path / "on").start == {"location": str(begun), "sha256": expected.sha256}
    assert read_origin(tmp_path / "fresh").start is None


def test_teacher_and_starting_weights_are_loaded_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, teacher = saved(tmp_path / "begun"), saved(tmp_path / "teacher", "teacher-tiny")
    loaded: list[Path] = []
    monkeypatch.setattr(assembly, "load_weights", lambda name: loaded.append(name) or load_weights(name))
    recipe = load_recipe("nano", "student", ["network=nano", "steps=1", "batch_size=2", "crop=48"])
    start_run(recipe, [store], tmp_path / "run", teachers=[teacher], start_from=begun)
    assert loaded == [begun, teacher]
    origin = read_origin(tmp_path / "run")
    assert origin.teachers == ({"location": str(teacher), "sha256": load_weights(teacher).sha256},)
    assert origin.start == {"location": str(begun), "sha256": load_weights(begun).sha256}


@pytest.mark.parametrize("teacher", ["teacher-tiny", "teacher-edge"])
def test_a_teacher_begins_as_the_same_network_without_text(store: Path, tmp_path: Path, teacher: str) -> None:
    """Whatever it is told, it gives the very picture that it gave without, and its text layers can learn."""
    torch.manual_seed(5)
    save_weights(tmp_path / "begun", build_network(replace(NETWORKS[teacher].config, text_width=None)), "# a network\n")
    settings = [f"network={teacher}", "steps=1", "batch_size=2", "crop=64", "lr=1e-12", "ema=0", "weight_decay=0"]
    start_run(load_recipe("tiny", "teacher", settings), [store], tmp_path / "on", start_from=tmp_path / "begun")
    before, after = load_weights(tmp_path / "begun").network, load_weights(tmp_path / "on").network
    visible, infrared, text = (
        torch.rand(1, 3, 64, 64),
        torch.rand(1, 1, 64, 64),
        torch.randn(1, after.config.text_width),
    )
    with torch.no_grad():
        torch.testing.assert_close(after(visible, infrared, text), before(visible, infrared), atol=1e-5, rtol=0)
    first_layers = [value for name, value in after.state_dict().items() if name.endswith("layers.0.weight")]
    assert first_layers and all(value.abs().max() > 0 for value in first_layers)


def test_weights_of_another_network_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another network.*half_width=16"):
        start_run(
            load_recipe("nano", "student", STILL), [store], tmp_path / "run", start_from=saved(tmp_path / "e", "edge")
        )


def test_a_resumed_run_refuses_other_weights_in_their_place(store: Path, tmp_path: Path) -> None:
    begun = saved(tmp_path / "begun")
    start_run(load_recipe("nano", "student", STILL), [store], tmp_path / "run", start_from=begun)
    saved(begun, seed=6)
    with pytest.raises(TrainingError, match="the weights to start from are"):
        resume_run(tmp_path / "run")
