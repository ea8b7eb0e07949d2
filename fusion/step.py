"""One step of training: its learning rate, forward and backward through a batch, what a log wants to know of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fusion.batch import Batch
from fusion.objective import Outcome
from fusion.recipe import Recipe


def take_step(
    accelerator: Any, trainee: nn.Module, optimizer: Any, parts: Sequence[Batch], recipe: Recipe
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """One optimiser step over the parts of a batch: mean of each term per part, and the gradient norm."""
    means = []
    for number, part in enumerate(parts):
        with ExitStack() as stack:
            if number < len(parts) - 1:
                stack.enter_context(accelerator.no_sync(trainee))
            outcome: Outcome = trainee(part.to(accelerator.device))
            accelerator.backward(outcome.total / len(parts))
        means.append({name: term.detach().mean() for name, term in outcome.terms.items()})
    norm = accelerator.clip_grad_norm_(trainee.parameters(), recipe.clip or float("inf"))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return means, torch.as_tensor(norm)


def first_pair(batch: Batch) -> Batch:
    """The first pair of a batch."""
    return batch.only(torch.arange(len(batch.keys)) == 0)


def all_keys(accelerator: Any, parts: Sequence[Batch]) -> list[str]:
    """The keys of a step in the global order: part by part, process by process."""
    own = [list(part.keys) for part in parts]
    if accelerator.num_processes == 1:
        return [key for part in own for key in part]
    from accelerate.utils import gather_object

    by_process = gather_object([own])
    return [key for part in range(len(own)) for process in by_process for key in process[part]]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then one cosine from ``lr`` to ``final_lr`` over the rest of the run; ``step`` from 0."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * (1 + math.cos(math.pi * progress)) / 2
