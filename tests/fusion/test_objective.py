"""What training minimises: the terms of both stages, their factors, the rate and the average."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.averaging import Average
from fusion.batch import Batch
from fusion.catalog import NETWORKS
from fusion.colour import luma
from fusion.distillation import Distillation, feature_distance
from fusion.edge_losses import TERMS as EDGE_TERMS
from fusion.losses import TERMS, fusion_loss
from fusion.network import FusionNetwork, NetworkConfig
from fusion.objective import Objective, gradient_shares
from fusion.reader import IndexedReader, open_pairs
from fusion.recipe import load_recipe
from fusion.step import learning_rate
from pipeline.errors import ManifestError
from pipeline.store import Store

SMALL = NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=512)


def first_batch(store: Path, *settings: str):  # type: ignore[no-untyped-def]
    recipe = load_recipe("tiny", "teacher", ["crop=48", "batch_size=2", *settings])
    training, _ = open_pairs(Store.open(store), recipe)
    return next(iter(IndexedReader([training], recipe).steps(0, 1)))[0]


def test_the_teachers_loss_is_the_fusion_loss_of_the_pairs_own_weights(store: Path) -> None:
    torch.manual_seed(0)
    batch = first_batch(store)
    network = FusionNetwork(SMALL)
    outcome = Objective(network, load_recipe("tiny", "teacher").factors())(batch)
    expected = fusion_loss(
        batch.visible, batch.infrared, network(batch.visible, batch.infrared, batch.text), batch.weights
    )
    assert torch.allclose(outcome.total, expected.total.mean(), rtol=1e-5)


def expected_terms(batch: Batch, fused: torch.Tensor, edge_terms: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Every term of factor 1 against the clean pair, in single precision; the edge terms see what will be saved."""
    terms = fusion_loss(batch.target_visible, batch.target_infrared, fused, batch.weights).terms
    planes = luma(batch.target_visible), batch.target_infrared, luma(fused.clamp(0, 1))
    return terms | {f"edge.{name}": EDGE_TERMS[name](*planes, torch.zeros_like(planes[0])) for name in edge_terms}


def test_the_network_sees_the_degraded_pair_and_the_loss_the_clean_one(store: Path) -> None:
    clean = first_batch(store)
    batch = replace(clean, visible=clean.visible * 0.3, infrared=clean.infrared.flip(-1))
    network = NETWORKS["nano"].build()
    edge_terms = ("intensity", "gradient", "departure", "checker")
    outcome = Objective(network, dict.fromkeys([*TERMS, *(f"edge.{name}" for name in edge_terms)], 1.0))(batch)
    assert torch.equal(outcome.fused, network(batch.visible, batch.infrared))
    expected = expected_terms(batch, outcome.fused, edge_terms)
    assert outcome.terms.keys() == expected.keys()
    for name, term in outcome.terms.items():
        torch.testing.assert_close(term, expected[name], msg=lambda text, name=name: f"{name}: {text}")


class Mix(torch.nn.Module):
    """One convolution: under autocast its image comes out in half precision, as those of the large networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(4, 3, 1)

    def forward(self, visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.cat([visible, infrared], dim=1))


def test_under_bf16_the_losses_are_taken_in_fp32(store: Path) -> None:
    batch = first_batch(store)
    edge_terms = ("gradient", "departure", "qabf", "spurious")
    objective = Objective(Mix(), dict.fromkeys([*TERMS, *(f"edge.{name}" for name in edge_terms)], 1.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert objective.network(batch.visible, batch.infrared).dtype == torch.bfloat16
        outcome = objective(batch)
    expected = expected_terms(batch, outcome.fused.float(), edge_terms)
    for name, term in outcome.terms.items():
        torch.testing.assert_close(term, expected[name], msg=lambda text, name=name: f"{name}: {text}")


def test_a_factor_scales_its_term_and_zero_leaves_it_out(store: Path) -> None:
    batch = first_batch(store)
    network = NETWORKS["nano"].build()
    whole = Objective(network, {"ssim": 1.0, "gradient": 1.0, "edge.qabf": 1.0})(batch).terms
    part = Objective(network, {"ssim": 3.0, "edge.qabf": 0.5})(batch).terms
    assert set(part) == {"ssim", "edge.qabf"}
    assert torch.allclose(part["ssim"], 3 * whole["ssim"]) and torch.allclose(part["edge.qabf"], whole["edge.qabf"] / 2)


def test_distillation_has_the_three_parts_of_the_paper(store: Path) -> None:
    """Base loss without a teacher, output L1 to the teacher's picture, features through 1x1 adapters."""
    torch.manual_seed(0)
    batch = first_batch(store)
    teacher = FusionNetwork(SMALL)
    student = FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=None))
    factors = {"ssim": 1.0, "features": 2.0, "output": 5.0}
    objective = Objective(student, factors, Distillation([teacher], student, features=True))
    outcome = objective(batch)
    fused, taps = student.forward_features(batch.visible, batch.infrared)
    goal, teacher_taps = teacher.forward_features(batch.visible, batch.infrared, batch.text)
    output = [float(np.abs((f - g).detach().numpy()).mean()) for f, g in zip(fused, goal, strict=True)]
    assert outcome.terms["output"].tolist() == pytest.approx([5 * value for value in output], rel=1e-4)
    features = []
    for index in range(2):
        distances = []
        for tap, wide, adapter in zip(taps, teacher_taps, objective.distillation.adapters, strict=True):
            matrix = adapter.weight[:, :, 0, 0].detach().numpy()
            adapted = (
                np.einsum("oc,chw->ohw", matrix, wide[index].detach().numpy())
                + adapter.bias.detach().numpy()[:, None, None]
            )
            distances.append(np.abs(tap[index].detach().numpy() - adapted).mean() / np.abs(adapted).mean())
        features.append(2 * np.mean(distances))
    assert outcome.terms["features"].tolist() == pytest.approx(features, rel=1e-3)


def test_adapters_learn_and_the_teacher_does_not(store: Path) -> None:
    batch = first_batch(store)
    teacher = FusionNetwork(SMALL)
    student = FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=None))
    objective = Objective(student, {"features": 1.0}, Distillation([teacher], student, features=True))
    names = [name for name, _ in objective.named_parameters()]
    assert sum("adapters" in name for name in names) == 8 and not any("teacher" in name for name in names)
    objective(batch).total.backward()
    assert all(adapter.weight.grad.abs().sum() > 0 for adapter in objective.distillation.adapters)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_feature_term_does_not_vanish_with_its_scale() -> None:
    taps, goals = [torch.randn(2, 4, 6, 6) for _ in range(2)], [torch.randn(2, 4, 6, 6) for _ in range(2)]
    plain = feature_distance(taps, goals)
    tiny = feature_distance([tap * 1e-3 for tap in taps], [goal * 1e-3 for goal in goals])
    assert torch.allclose(plain, tiny, rtol=1e-2) and (plain > 0.5).all()
    assert torch.allclose(feature_distance(goals, goals), torch.zeros(2))


def test_gradient_shares_add_up_and_follow_the_factors(store: Path) -> None:
    batch = first_batch(store)
    network = NETWORKS["nano"].build()
    even = gradient_shares(Objective(network, {"edge.gradient": 1.0, "edge.intensity": 1.0}), batch)
    uneven = gradient_shares(Objective(network, {"edge.gradient": 1.0, "edge.intensity": 1e-4}), batch)
    assert sum(even.values()) == pytest.approx(1) and uneven["edge.intensity"] < 0.01 < even["edge.intensity"]


def test_terms_that_a_network_cannot_have_are_refused() -> None:
    student = FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=None))
    with pytest.raises(ManifestError, match="blend weight: edge or nano"):
        Objective(student, {"edge.roughness": 1.0})
    with pytest.raises(ManifestError, match="set loss.features=0"):
        Objective(NETWORKS["nano"].build(), {"features": 1.0})


def test_the_learning_rate_is_one_cosine_over_the_run() -> None:
    recipe = load_recipe("tiny", "teacher", ["steps=110", "warmup=10", "lr=1e-3", "final_lr=1e-5"])
    rates = [learning_rate(recipe, step) for step in range(110)]
    assert rates[0] == pytest.approx(1e-4) and rates[10] == max(rates) == pytest.approx(1e-3)
    assert rates[60] == pytest.approx((1e-3 + 1e-5) / 2) and rates[-1] == pytest.approx(1e-5, rel=0.05)
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))


def test_the_average_follows_its_formula_and_gives_the_network_back() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = Average(network, 0.5)
    expected = network.weight.item()
    for step, value in enumerate((3.0, -1.0, 5.0)):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.in_place_of(network):
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 5
