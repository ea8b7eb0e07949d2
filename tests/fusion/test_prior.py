"""A student that estimates the text's embedding: its loss term, its start from a teacher that reads, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.catalog import NETWORKS
from fusion.edge import EdgeNetwork
from fusion.objective import Objective
from fusion.reader import IndexedReader, open_pairs
from fusion.recipe import load_recipe
from fusion.training import start_run
from fusion.weights import load_weights, save_weights
from pipeline.errors import InputError, ManifestError
from pipeline.store import Store

SMALL = ["batch_size=4", "crop=48", "degrade=0.8"]
ALONE = [f"loss.{name}=0" for name in ("edge.intensity", "edge.gradient", "edge.ssim", "edge.qabf", "edge.departure")]
ONLY_PRIOR = [*ALONE, "loss.edge.range=0", "loss.output=0"]


def test_the_term_is_the_squared_distance_to_the_texts_embedding(store: Path) -> None:
    recipe = load_recipe("guided-prior", "student", [*SMALL, "loss.prior=3"])
    training, _ = open_pairs(Store.open(store), recipe)
    (batch,) = next(iter(IndexedReader([training], recipe).steps(0, 1)))
    torch.manual_seed(0)
    network = NETWORKS["edge-prior"].build()
    assert isinstance(network, EdgeNetwork)
    with torch.no_grad():
        term = Objective(network, {"prior": 3.0})(batch).terms["prior"]
        estimate = network.forward_features(batch.visible, batch.infrared)[2]
    assert estimate is not None
    expected = 3 * np.square(estimate.numpy() - batch.text.numpy()).sum(axis=1)
    np.testing.assert_allclose(term.numpy(), expected, rtol=1e-5)
    assert len(set(batch.text.sum(dim=1).tolist())) > 1, "the texts are all alike: this batch shows nothing"


def test_the_estimate_modulates_as_the_text_would(store: Path, tmp_path: Path) -> None:
    """With the teacher's weights and a context that answers with its text, student and teacher are one network."""
    torch.manual_seed(0)
    teacher = NETWORKS["teacher-edge"].build()
    torch.nn.init.normal_(teacher.head.weight, std=0.05)
    save_weights(tmp_path / "teacher", teacher, "card")
    recipe = load_recipe("guided-prior", "student", [*SMALL, "steps=1", "lr=1e-12", "ema=0", "weight_decay=0"])
    start_run(recipe, [store], tmp_path / "run", teachers=[tmp_path / "teacher"], start_from=tmp_path / "teacher")
    student = load_weights(tmp_path / "run").network
    text = torch.nn.functional.normalize(torch.randn(1, 512), dim=1)
    torch.nn.init.zeros_(student.context.out.weight)
    student.context.out.bias.data = text[0]
    visible, infrared = torch.rand(1, 3, 40, 52), torch.rand(1, 1, 40, 52)
    with torch.no_grad():
        fused, other = student(visible, infrared), teacher(visible, infrared, -text)
        torch.testing.assert_close(fused, teacher(visible, infrared, text), atol=1e-5, rtol=0)
    assert float((fused - other).abs().amax()) > 1e-3, "or the text changes nothing"


def test_it_learns_to_tell_what_was_drawn(new_store: Callable[..., Path], tmp_path: Path) -> None:
    """After 250 steps its estimates are nearer to the texts than the mean of all texts, the best without looking, is."""
    location = new_store(tmp_path, pairs=8, name="drawn")
    settings = [*SMALL, *ONLY_PRIOR, "degrade=1", "batch_size=8", "steps=250", "warmup=5", "ema=0"]
    recipe = load_recipe("guided-prior", "student", settings)
    start_run(recipe, [location], tmp_path / "run")
    network = load_weights(tmp_path / "run").network
    training, _ = open_pairs(Store.open(location), recipe)
    batches = [parts[0] for parts in IndexedReader([training], recipe).steps(250, 260)]  # not seen while training
    texts = torch.cat([batch.text for batch in batches])
    with torch.no_grad():
        estimates = torch.cat([network.forward_features(b.visible, b.infrared)[2] for b in batches])
    missed = float((estimates - texts).square().sum(dim=1).mean())
    blind = float((texts.mean(dim=0) - texts).square().sum(dim=1).mean())
    assert missed < 0.9 * blind


def test_a_network_without_an_estimate_is_refused(store: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano", "student", ["loss.prior=1", "steps=1", "crop=48"])
    with pytest.raises(ManifestError, match="'prior' needs a network that makes an embedding"):
        start_run(recipe, [store], tmp_path / "run")


def test_a_teacher_of_another_shape_is_no_start(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "edge", NETWORKS["edge"].build(), "card")
    recipe = load_recipe("guided-prior", "student", [*SMALL, "steps=1", "loss.output=0"])
    with pytest.raises(InputError, match="another network"):
        start_run(recipe, [store], tmp_path / "run", start_from=tmp_path / "edge")
