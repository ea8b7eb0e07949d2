"""How a training stops when it has to: a loss that explodes, memory that does not suffice."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion.devices import lacks_memory
from fusion.recipe import Recipe
from pipeline.atomic import write_text
from pipeline.errors import TrainingError

MEAN_OVER = 50  # steps of the running mean that an exploding loss is measured against


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One step: its number (from 1), this process's pairs and its loss, still on the device."""

    step: int
    keys: tuple[str, ...]
    loss: Tensor


def check_losses(
    accelerator: Any,
    recent: Sequence[Seen],
    running: float | None,
    recipe: Recipe,
    out: Path,
) -> float | None:
    """The running mean of the loss; stops the run at the first loss that is not finite or far above it."""
    losses = torch.stack([seen.loss for seen in recent])
    means = accelerator.reduce(losses, "mean").tolist()
    for seen, loss in zip(recent, means, strict=True):
        exploded = running is not None and seen.step > recipe.warmup and loss > recipe.explode * running
        if not math.isfinite(loss) or exploded:
            path = out / f"stopped-step-{seen.step:08d}-process-{accelerator.process_index}.json"
            write_text(
                path, json.dumps({"step": seen.step, "loss": str(loss), "running_mean": running, "keys": seen.keys})
            )
            raise TrainingError(
                f"the loss is {loss:.4g} at step {seen.step} (running mean {running and round(running, 4)}); the pairs of that batch are "
                f"in {path}. Look at them, {_gentler(recipe)}"
            )
        running = loss if running is None else running + (loss - running) / MEAN_OVER
    return running


def check_weights(network: nn.Module, step: int, recipe: Recipe) -> None:
    """Stop the run before weights that are no numbers are validated or saved: a loss tells of them a step too late."""
    names = [name for name, value in network.named_parameters()]
    finite = torch.stack([value.detach().isfinite().all() for value in network.parameters()]).tolist()
    broken = [name for name, good in zip(names, finite, strict=True) if not good]
    if broken:
        raise TrainingError(
            f"{len(broken)} of {len(names)} weights, {broken[0]} among them, are not finite after step {step}; nothing of it "
            f"is saved. Start again: {_gentler(recipe)}"
        )


def _gentler(recipe: Recipe) -> str:
    below = f" below {recipe.clip:g}" if recipe.clip else ""  # 0 is off
    return f"lower lr ({recipe.lr:g}), or set clip{below}"


def advice(error: BaseException, recipe: Recipe) -> BaseException:
    """What to do about a lack of memory, as a TrainingError; any other error as it is."""
    if not lacks_memory(error):
        return error
    parts = next((n for n in range(recipe.accumulation + 1, recipe.batch_size + 1) if recipe.batch_size % n == 0), None)
    more = f"--set accumulation={parts} (same result, less memory), " if parts else ""
    return TrainingError(
        f"out of memory with batch_size {recipe.batch_size}, accumulation {recipe.accumulation}, crop {recipe.crop}; try "
        f"{more}--set precision=bf16, or a smaller batch_size or crop"
    )
