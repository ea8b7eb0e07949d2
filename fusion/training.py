"""The training loop, for teacher and student alike. One process or many: ``accelerate launch`` decides.

    fusioncli train-teacher --dataset msrs --recipe paper-ivf                     one device
    accelerate launch --num_processes 4 -m cli train-teacher --dataset msrs       four GPUs, the same samples in the same order

What a step sees depends on its number alone, so a checkpoint is tensors and a step number, and resuming is exact.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from fusion.catalog import build_network, network_entry
from fusion.checkpoints import Checkpoint, gather, latest_checkpoint, restore, save_checkpoint
from fusion.cost import count_parameters
from fusion.live import LiveView
from fusion.network import NetworkConfig
from fusion.objective import Objective
from fusion.reader import Batch, PairReader
from fusion.recipe import Recipe
from fusion.runs import LOG, RunPlan, append_log, cut_log, model_card
from fusion.validation import gradient_shares, improved, save_strips, validate
from fusion.weights import load_weights, save_weights
from pipeline.atomic import write_text
from pipeline.errors import TrainingError, WeightsError
from pipeline.store import Store

EXPLODED = 1e6


def train(plan: RunPlan, run: Path) -> None:
    """Train from the newest checkpoint in ``run`` (or from nothing) to the recipe's last step; write the weights.

    Raises StoreError, WeightsError, and TrainingError for a loss that is not finite or memory that does not suffice.
    """
    recipe = plan.recipe
    accelerator = Accelerator(
        mixed_precision=recipe.precision,
        log_with=list(recipe.trackers) or None,
        project_dir=str(run),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    reader = PairReader([Store.open(location) for location in plan.stores], recipe)
    objective = make_objective(plan, reader)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    average = {name: value.detach().clone() for name, value in objective.network.state_dict().items()}
    checkpoint = latest_checkpoint(run / "checkpoints")
    if checkpoint:
        restore(checkpoint, objective, optimizer, average)
    if objective.teacher is not None:
        objective.teacher.to(accelerator.device)
    average = {name: value.to(accelerator.device) for name, value in average.items()}
    model, optimizer = accelerator.prepare(torch.compile(objective) if recipe.compile else objective, optimizer)
    if recipe.trackers:
        accelerator.init_trackers("fusioncli", config={"recipe": recipe.name, "steps": recipe.steps})
    loop = Loop(plan, run, accelerator, reader, objective, model, optimizer, average)
    try:
        loop.go(checkpoint)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"out of memory with batches of {recipe.batch_size} crops of {recipe.crop} pixels: try --set accumulation="
            f"{2 * recipe.accumulation}, or a smaller batch_size or crop; the last checkpoint is kept"
        ) from error
    finally:
        accelerator.end_training()


def make_objective(plan: RunPlan, reader: PairReader) -> Objective:
    """The network to train and its loss. Raises WeightsError when a teacher's text width is not the store's."""
    recipe = plan.recipe
    config = network_entry(recipe.network).config
    if isinstance(config, NetworkConfig) and config.text_width is not None:
        config = replace(config, text_width=reader.text_width if recipe.text else None)
    torch.manual_seed(recipe.seed)
    network = build_network(config)
    if not recipe.feature and not recipe.output:
        return Objective(network, recipe)
    if plan.teacher is None:
        raise WeightsError(f"recipe {recipe.name} distils: name a teacher with --teacher RUN")
    teacher = load_weights(plan.teacher).network
    width = getattr(getattr(teacher, "config", None), "text_width", None)
    if width is not None and width != reader.text_width:
        raise WeightsError(
            f"{plan.teacher} was trained on text embeddings of width {width}, the store's are {reader.text_width} wide"
        )
    return Objective(network, recipe, teacher)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then one cosine over the run."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * done))


class Loop:
    """The steps of one run."""

    def __init__(
        self,
        plan: RunPlan,
        run: Path,
        accelerator: Accelerator,
        reader: PairReader,
        objective: Objective,
        model: nn.Module,
        optimizer: Any,
        average: dict[str, Tensor],
    ) -> None:
        self.plan, self.recipe, self.run = plan, plan.recipe, run
        self.accelerator, self.reader = accelerator, reader
        self.objective, self.model, self.optimizer, self.average = objective, model, optimizer, average
        self.best: float | None = None
        self.validation: dict[str, float] = {}

    def go(self, checkpoint: Checkpoint | None) -> None:
        """Every step that is left, then the final weights."""
        start = checkpoint.step if checkpoint else 0
        if checkpoint:
            self.best, self.validation = checkpoint.numbers["best"], checkpoint.numbers["validation"]
            if self.accelerator.scaler is not None and checkpoint.numbers.get("scaler"):
                self.accelerator.scaler.load_state_dict(checkpoint.numbers["scaler"])
        main = self.accelerator.is_main_process
        if main:
            cut_log(self.run / LOG, start)
        view = LiveView(self.plan.stage, self.recipe.steps, start, show=main)
        with view, ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self._load, start)
            for step in range(start, self.recipe.steps):
                begin = time.perf_counter()
                parts = coming.result()
                waited = time.perf_counter() - begin
                coming = self._next(ahead, step + 1)
                terms = self._step(step, parts)
                view.stepped(
                    terms, learning_rate(self.recipe, step), self.recipe.batch_size, waited, time.perf_counter() - begin
                )
                self._after(step + 1, terms, parts[0], view)
        if main:
            self._finish()

    def _next(self, ahead: ThreadPoolExecutor, step: int) -> Future[list[Batch]]:
        return ahead.submit(self._load, min(step, self.recipe.steps - 1))

    def _load(self, step: int) -> list[Batch]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if self.recipe.batch_size % (world * self.recipe.accumulation):
            raise TrainingError(
                f"batch_size {self.recipe.batch_size} does not divide among {world} processes and accumulation "
                f"{self.recipe.accumulation}"
            )
        parts = self.recipe.accumulation
        return [self.reader.batch(step, rank, world, part, parts) for part in range(parts)]

    def _step(self, step: int, parts: list[Batch]) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step)
        self.model.train()
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(parts):
            moved = batch.to(self.accelerator.device)
            last = index == len(parts) - 1
            with self.accelerator.no_sync(self.model) if not last else nullcontext():
                with self.accelerator.autocast():
                    terms = self.model(moved)
                loss = torch.stack([value.mean() for value in terms.values()]).sum()
                self.accelerator.backward(loss / len(parts))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach().float().mean() / len(parts)
        means = self.accelerator.reduce(sums, reduction="mean")
        values = {name: float(value) for name, value in means.items()}
        self._check(step, values, parts)
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        return values

    def _check(self, step: int, values: dict[str, float], parts: list[Batch]) -> None:
        total = sum(values.values())
        if math.isfinite(total) and total < EXPLODED:
            return
        keys = [key for batch in parts for key in batch.keys]
        path = self.run / "failed_batch.json"
        write_text(
            path,
            json.dumps(
                {"step": step, "loss": str(total), "terms": {k: str(v) for k, v in values.items()}, "keys": keys}
            ),
        )
        raise TrainingError(
            f"the loss is {total} at step {step}; the batch's keys are in {path}; try a smaller lr or clip"
        )

    def _average(self) -> None:
        state = self.objective.network.state_dict()
        for name, value in self.average.items():
            if self.recipe.ema and value.is_floating_point():
                value.lerp_(state[name], 1 - self.recipe.ema)
            else:
                value.copy_(state[name])

    def _after(self, done: int, terms: dict[str, float], batch: Batch, view: LiveView) -> None:
        recipe, last = self.recipe, done == self.recipe.steps
        entry: dict[str, Any] = {}
        if done % recipe.log_every == 0 or last:
            entry = {
                "step": done,
                "loss": sum(terms.values()),
                "terms": terms,
                "lr": learning_rate(recipe, done - 1),
                **view.rates(),
            }
        if (done % recipe.validate_every == 0 or last) and self.reader.validation:
            entry |= {"step": done, **self._validate(done, batch)}
            view.validated(self.validation)
        if entry and self.accelerator.is_main_process:
            append_log(self.run / LOG, entry)
            if recipe.trackers:
                self.accelerator.log({f"term/{name}": value for name, value in terms.items()}, step=done)
        if (done % recipe.checkpoint_every == 0 or last) and self.accelerator.is_main_process:
            self._checkpoint(done)

    def _validate(self, done: int, batch: Batch) -> dict[str, Any]:
        """The averaged weights on the held-out pairs; the best so far are kept in ``best``."""
        network = self.objective.network
        shares = gradient_shares(self.objective, batch.to(self.accelerator.device))
        live = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self.average)
        network.eval()
        self.validation, strips = validate(self.objective, self.reader, self.accelerator.device)
        if self.accelerator.is_main_process:
            save_strips(self.run / "pictures" / f"step-{done:08d}.png", strips)
            if improved(self.validation, self.best):
                save_weights(
                    self.run / "best",
                    network,
                    "The best weights of this run so far, by validation loss.\n",
                    {"step": done},
                )
        if improved(self.validation, self.best):
            self.best = self.validation["loss"]
        network.load_state_dict(live)
        return {"validation": self.validation, "gradient_shares": shares}

    def _checkpoint(self, done: int) -> None:
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None
        numbers = {"best": self.best, "validation": self.validation, "scaler": scaler}
        tensors = gather(self.objective, self.optimizer, self.average)
        save_checkpoint(
            self.run / "checkpoints",
            Checkpoint(step=done, numbers=numbers, tensors=tensors),
            self.recipe.keep_checkpoints,
        )

    def _finish(self) -> None:
        stores = [Store.open(location).header for location in self.plan.stores]
        card = model_card(
            self.plan,
            count_parameters(self.objective.network),
            sorted({header.dataset for header in stores}),
            self.validation,
        )
        extra = {
            "task": stores[0].task,
            "stage": self.plan.stage,
            "recipe": self.recipe.as_dict(),
            "stores": list(self.plan.store_digests),
            "validation": self.validation,
        }
        save_weights(self.run, self.objective.network, card, extra, self.average)
