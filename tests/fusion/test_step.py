"""One optimiser step by hand: its gradient, clipped, times the rate; and what the loop steps with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusion.assembly import Given, make_accelerator
from fusion.batch import Batch
from fusion.loop import Loop
from fusion.objective import Objective
from fusion.recipe import load_recipe
from fusion.run import Origin, describe_store
from fusion.step import learning_rate, take_step
from pipeline.store import Store


class Mix(nn.Module):
    """Each fused channel is a weighted sum of both images."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.3, 0.6, 12).reshape(3, 4))

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", self.weight, torch.cat([visible, infrared], dim=1))


def four_pairs() -> Batch:
    random = torch.Generator().manual_seed(0)
    visible, infrared = torch.rand(4, 3, 24, 24, generator=random), torch.rand(4, 1, 24, 24, generator=random)
    return Batch(
        keys=("a", "b", "c", "d"),
        visible=visible,
        infrared=infrared,
        target_visible=visible,
        target_infrared=infrared,
        weights=torch.rand(4, 5, generator=random),
        text=torch.zeros(4, 1),
        store=torch.zeros(4, dtype=torch.int64),
    )


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("clip", [0.0, 0.05, 100.0])
def test_a_step_moves_the_weights_by_the_rate_times_the_clipped_gradient(
    parts: int, clip: float, tmp_path: Path
) -> None:
    """Whatever the parts a batch is cut into. AdamW would hide a gradient of another scale; plain descent does not."""
    recipe = replace(load_recipe("nano", "student"), clip=clip)
    objective, batch = Objective(Mix(), {"intensity": 1.0, "colour": 1.0}), four_pairs()
    before = objective.network.weight.detach().clone()
    (gradient,) = torch.autograd.grad(objective(batch).total, [objective.network.weight])
    norm = float(gradient.norm())
    assert 0.05 < norm < 100, "one limit is under the gradient, one above"
    accelerator = make_accelerator(recipe, tmp_path)
    trainee, optimizer = accelerator.prepare(objective, torch.optim.SGD(objective.parameters(), lr=0.5))
    numbers = torch.arange(4)
    cut = [batch.only(numbers * parts // 4 == part) for part in range(parts)]
    means, told = take_step(accelerator, trainee, optimizer, cut, recipe)
    clipped = gradient * min(1.0, (clip or norm) / norm)
    torch.testing.assert_close(objective.network.weight.detach(), before - 0.5 * clipped, rtol=1e-4, atol=1e-6)
    assert float(told) == pytest.approx(norm, rel=1e-4)
    assert len(means) == parts
    assert objective.network.weight.grad is None, "the next step starts from nothing"


def test_the_loop_steps_with_the_recipes_weight_decay_and_the_schedules_rate(store: Path, tmp_path: Path) -> None:
    fast = ["steps=3", "batch_size=1", "crop=48", "validation_share=0", "pictures=0", "shares_every=99"]
    recipe = load_recipe("nano", "student", [*fast, "warmup=0", "lr=1e-3", "final_lr=1e-5", "weight_decay=0.03"])
    opened = Store.open(store)
    described = (describe_store(opened, recipe.prior),)
    origin = Origin(recipe=recipe, stores=described, teachers=(), versions={}, revision=None)
    loop = Loop(origin, Given(start=None, teachers=()), [opened], tmp_path / "run", checkpoint=None)
    assert [group["weight_decay"] for group in loop.optimizer.param_groups] == [0.03]
    loop.run(0)
    rates = [group["lr"] for group in loop.optimizer.param_groups]
    assert rates == [learning_rate(recipe, 2)] and rates[0] < 0.5e-3
