"""The loop of both stages: steps, the log, validation and checkpoints of one run, on one device or many.

A step is a pure function of the checkpoint before it, so a killed run that is resumed ends with the same bits (on a
CPU) as one that was not. Every process runs the loop; only the main one writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusion.assembly import Given, build_objective, compile_network, make_accelerator
from fusion.averaging import Average
from fusion.batch import Batch
from fusion.checkpoints import Checkpoint, fill, optimizer_tensors, restore_optimizer, save_checkpoint
from fusion.faults import Seen, advice, check_losses, check_weights
from fusion.objective import gradient_shares
from fusion.progress import Live
from fusion.reader import Cache, IndexedReader, open_pairs, without
from fusion.recipe import Recipe
from fusion.run import BEST_SO_FAR, ORIGIN, Log, Origin, clear_folder, model_step, write_model, write_origin
from fusion.run_lock import hold
from fusion.step import all_keys, first_pair, learning_rate, take_step
from fusion.stopping import Stopping, stopping
from fusion.stream import StreamReader
from fusion.validation import BEST, validate
from pipeline.console import note
from pipeline.store import Store


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call of the trainer left: the run folder, the step it stands at, whether it is complete, metrics."""

    run: Path
    step: int
    finished: bool
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One optimiser step on this process: its pairs, the mean of every term, the learning rate, the gradient's norm."""

    parts: list[Batch]
    terms: dict[str, Tensor]
    rate: float
    norm: Tensor


class Loop:
    """A training between its first step, or the one after ``checkpoint``, and its last."""

    def __init__(
        self,
        origin: Origin,
        given: Given,
        stores: Sequence[Store],
        out: Path,
        checkpoint: Checkpoint | None,
        *,
        replace: bool = False,
    ) -> None:
        """``replace``: the run that ``out`` holds makes room, once everything that this one needs has been checked."""
        recipe = origin.recipe
        self.origin, self.recipe, self.out = origin, recipe, out
        self.accelerator = make_accelerator(recipe, out)
        self.main = self.accelerator.is_main_process
        torch.manual_seed(recipe.seed)

        cache = Cache(recipe.cache_mb * 2**20)
        opened = [open_pairs(store, recipe, cache, number) for number, store in enumerate(stores)]
        self.held = [held for _, held in opened]
        self.training = without([training for training, _ in opened], self.held)
        self.objective = build_objective(recipe, given, self.training)
        self.network = self.objective.network
        self.average = Average(self.network, recipe.ema)
        self._prepare(checkpoint)

        kind = StreamReader if recipe.reader == "stream" else IndexedReader
        self.reader = kind(self.training, recipe, self.accelerator.process_index, self.accelerator.num_processes)
        state = checkpoint.state if checkpoint else {"best": None, "running": None}
        self.first = checkpoint.step if checkpoint else 0
        self.best: dict[str, Any] | None = state["best"]
        self.running: float | None = state["running"]  # mean of the loss, which an exploding one is measured against
        self.metrics: dict[str, float] = dict(state.get("metrics") or (self.best["metrics"] if self.best else {}))
        self.recent: list[Seen] = []
        self.lock = hold(out) if self.main else None
        if self.main:
            if replace and (out / ORIGIN).exists():
                clear_folder(out)
            if not (out / ORIGIN).exists():  # a resumed run keeps what it was started with
                write_origin(out, origin)
            self.log = Log(out, self.first)
        self.accelerator.wait_for_everyone()

    def _prepare(self, checkpoint: Checkpoint | None) -> None:
        """Put networks and optimiser on their devices, with what the checkpoint holds."""
        recipe, accelerator = self.recipe, self.accelerator
        optimizer = torch.optim.AdamW(self.objective.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        if checkpoint is not None:
            fill(self.objective, checkpoint.tensors["model"], "model")
            self.average.load(checkpoint.tensors["ema"])
        if recipe.compile:
            compile_network(self.network)
        self.trainee, self.optimizer = accelerator.prepare(self.objective, optimizer)
        if checkpoint is not None:  # after prepare: the parameters are on their device by now
            restore_optimizer(self.optimizer.optimizer, self.objective, checkpoint.tensors["optimizer"])
            if accelerator.scaler is not None and checkpoint.state["scaler"]:
                accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
        self.average.shadow = {name: value.to(accelerator.device) for name, value in self.average.shadow.items()}
        if self.objective.distillation is not None:
            for teacher in self.objective.distillation.teachers:
                teacher.to(accelerator.device)

    def run(self, minutes: float) -> Result:
        """Go to the last step, or stop cleanly after so many minutes (0: never).

        Raises KeyboardInterrupt or SystemExit, after the step is saved, where Ctrl-C or SIGTERM asked for an end.
        """
        recipe = self.recipe
        began, step = time.monotonic(), self.first
        if self.first and self.main and model_step(self.out) != self.first:  # cut off between checkpoint and model
            self._write_model(self.out, self.first)
        with ExitStack() as stack:
            if self.lock:
                stack.callback(self.lock.release)
            self.live = stack.enter_context(Live(recipe, self.first, enabled=self.main))
            asked = stack.enter_context(stopping())
            if recipe.trackers:
                self.accelerator.init_trackers("fusioncli", config=_flat(recipe))
                stack.callback(self.accelerator.end_training)
            for parts, waited in _timed(self.reader.steps(self.first, recipe.steps)):
                taken = self._step(step, parts)
                step += 1
                self.live.count(recipe.batch_size, waited)
                last = step == recipe.steps or self._late(step, began, minutes, asked)
                saving = last or step % recipe.checkpoint_every == 0
                if saving or step % recipe.log_every == 0:
                    self._log(step, taken)
                validating = step == recipe.steps or step % recipe.validate_every == 0
                if validating or saving:
                    check_weights(self.network, step, recipe)
                if validating:
                    self._validate(step)
                if saving:
                    self._save(step)
                if last:
                    break
        finished = step >= recipe.steps
        if asked.asked is not None and not finished:
            if self.main:
                note(f"{self.out}: saved at step {step} of {recipe.steps}; a resumed run goes on from there")
            asked.obey()
        return Result(run=self.out, step=step, finished=finished, metrics=self.metrics)

    def _step(self, step: int, parts: list[Batch]) -> Taken:
        rate = learning_rate(self.recipe, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        try:
            outcomes, norm = take_step(self.accelerator, self.trainee, self.optimizer, parts, self.recipe)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            told = advice(error, self.recipe)
            if told is error:
                raise
            raise told from error
        self.average.update(self.network, step)
        terms = {name: torch.stack([outcome[name] for outcome in outcomes]).mean() for name in outcomes[0]}
        keys = tuple(key for part in parts for key in part.keys)
        self.recent.append(Seen(step=step + 1, keys=keys, loss=torch.stack(list(terms.values())).sum()))
        return Taken(parts=parts, terms=terms, rate=rate, norm=norm)

    def _log(self, step: int, taken: Taken) -> None:
        """Look at the losses since the last time, and log the newest. Reading them waits for the device."""
        accelerator, recipe = self.accelerator, self.recipe
        values = accelerator.reduce(torch.stack(list(taken.terms.values())), "mean").tolist()
        self.running = check_losses(accelerator, self.recent, self.running, recipe, self.out)
        self.recent.clear()
        record: dict[str, Any] = {
            "step": step,
            "loss": sum(values),
            "terms": dict(zip(taken.terms, values, strict=True)),
            "lr": taken.rate,
            "gradient_norm": float(taken.norm),
            "keys": all_keys(accelerator, taken.parts),
        }
        if self.main:
            if step % recipe.shares_every < recipe.log_every:
                self.live.shares = gradient_shares(self.objective, first_pair(taken.parts[0]).to(accelerator.device))
                record["shares"] = self.live.shares
            record |= self.live.rates()
            self.log.write(record)
            self.live.show(step, record)
        if recipe.trackers:
            accelerator.log({"loss": record["loss"], "lr": taken.rate, **record["terms"]}, step=step)

    def _validate(self, step: int) -> None:
        """Score the averaged network on the held-out pairs; the best so far is kept beside the newest."""
        recipe = self.recipe
        if self.main:
            picture = self.out / "pictures" / f"step-{step:08d}.png"
            with self.average.in_place_of(self.network), self.live.paused():
                self.metrics = validate(
                    self.objective,
                    self.held,
                    recipe.validation_crop,
                    self.accelerator.device,
                    recipe.pictures,
                    picture,
                )
            self.log.write({"step": step, "validation": self.metrics})
            self.live.validated(step, self.metrics)
            if self.metrics and (self.best is None or self.metrics[BEST] < self.best["metrics"][BEST]):
                self.best = {"step": step, "metrics": self.metrics}
                self._write_model(self.out / BEST_SO_FAR, step)
        if recipe.trackers:
            self.accelerator.log({f"validation/{name}": value for name, value in self.metrics.items()}, step=step)
        self.accelerator.wait_for_everyone()

    def _save(self, step: int) -> None:
        """Write a checkpoint and the averaged network."""
        if self.main:
            tensors = {
                "model": self.objective.state_dict(),
                "ema": self.average.shadow,
                "optimizer": optimizer_tensors(self.optimizer, self.objective),
            }
            scaler = self.accelerator.scaler
            state = {
                "best": self.best,
                "metrics": self.metrics,
                "running": self.running,
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            checkpoint = Checkpoint(step=step, tensors=tensors, state=state)
            save_checkpoint(self.out, checkpoint, self.recipe.keep_checkpoints)
            self._write_model(self.out, step)
        self.accelerator.wait_for_everyone()

    def _write_model(self, folder: Path, step: int) -> None:
        pairs = [len(store) for store in self.training]
        write_model(folder, self.origin, self.network, self.average, step, self.metrics, pairs)

    def _late(self, step: int, began: float, minutes: float, asked: Stopping) -> bool:
        """Whether time is up for any process, or one was asked to stop; several agree on a signal where they log."""
        late = asked.asked is not None or (minutes > 0 and time.monotonic() - began > 60 * minutes)
        if self.accelerator.num_processes == 1:
            return late
        if not minutes and step % self.recipe.log_every:
            return False
        votes = torch.tensor([float(late)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(votes, "sum").item() > 0)


def _timed(batches: Iterator[list[Batch]]) -> Iterator[tuple[list[Batch], float]]:
    """Each batch with the seconds the loop waited for it."""
    while True:
        began = time.monotonic()
        parts = next(batches, None)
        if parts is None:
            return
        yield parts, time.monotonic() - began


def _flat(recipe: Recipe) -> dict[str, Any]:
    values = {key: value for key, value in recipe.as_dict().items() if isinstance(value, int | float | str | bool)}
    return values | {f"loss.{name}": value for name, value in recipe.loss.items()}
