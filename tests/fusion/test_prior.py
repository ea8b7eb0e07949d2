"""A student that tells the text from the whole images: its loss term, that it learns to, what is refused."""

from __future__ import annotations

import json
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
from fusion.weights import save_weights
from pipeline.errors import InputError, ManifestError
from pipeline.store import Store

SMALL = ["batch_size=4", "crop=48", "degrade=0.8"]
ALONE = [f"loss.{name}=0" for name in ("edge.intensity", "edge.gradient", "edge.ssim", "edge.qabf", "edge.departure")]
ONLY_PRIOR = [*ALONE, "loss.edge.range=0", "loss.output=0"]


def test_the_term_is_the_squared_distance_of_what_is_read_to_the_texts_embedding(store: Path) -> None:
    recipe = load_recipe("guided-prior", "student", [*SMALL, "loss.prior=3"])
    training, _ = open_pairs(Store.open(store), recipe)
    (batch,) = next(iter(IndexedReader([training], recipe).steps(0, 1)))
    torch.manual_seed(0)
    network = NETWORKS["edge-prior"].build()
    assert isinstance(network, EdgeNetwork)
    reading = torch.nn.Linear(network.config.context_width, batch.text.shape[1])
    with torch.no_grad():
        term = Objective(network, {"prior": 3.0}, reading=reading)(batch).terms["prior"]
        told = network.forward_features(batch.visible, batch.infrared)[2]
    assert told is not None
    read = told.numpy() @ reading.weight.detach().numpy().T + reading.bias.detach().numpy()
    expected = 3 * np.square(read - batch.text.numpy()).sum(axis=1)
    np.testing.assert_allclose(term.numpy(), expected, rtol=1e-5)
    assert len(set(batch.text.sum(dim=1).tolist())) > 1, "the texts are all alike: this batch shows nothing"


def test_it_learns_to_tell_what_was_drawn(new_store: Callable[..., Path], tmp_path: Path) -> None:
    """After 250 steps it is nearer to the texts than their own mean, the best that can be told without looking."""
    location = new_store(tmp_path, pairs=8, name="drawn")
    settings = [*SMALL, *ONLY_PRIOR, "degrade=1", "batch_size=8", "steps=250", "warmup=5", "lr=0.006", "ema=0"]
    recipe = load_recipe("guided-prior", "student", [*settings, "loss.prior=1"])
    start_run(recipe, [location], tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    missed = np.mean([line["terms"]["prior"] for line in log if "terms" in line and line["step"] > 150])
    training, _ = open_pairs(Store.open(location), recipe)
    texts = torch.cat([parts[0].text for parts in IndexedReader([training], recipe).steps(150, 250)]).numpy()
    blind = np.square(texts.mean(axis=0) - texts).sum(axis=1).mean()
    assert missed < 0.9 * blind


def test_a_network_without_an_estimate_is_refused(store: Path, tmp_path: Path) -> None:
    recipe = load_recipe("nano", "student", ["loss.prior=1", "steps=1", "crop=48"])
    with pytest.raises(ManifestError, match="'prior' needs a network that makes an embedding"):
        start_run(recipe, [store], tmp_path / "run")


def test_a_teacher_that_reads_is_no_start(store: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "teacher", NETWORKS["teacher-edge"].build(), "card")
    recipe = load_recipe("guided-prior", "student", [*SMALL, "steps=1", "loss.output=0"])
    with pytest.raises(InputError, match="another network"):
        start_run(recipe, [store], tmp_path / "run", start_from=tmp_path / "teacher")
