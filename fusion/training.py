"""The training loop of both stages: teacher from a store, student from a store and a teacher.

One command trains on one device; the same command under ``accelerate launch`` on many. A step is a pure function of
the checkpoint before it, so a killed run that is resumed ends with the same bits (on a CPU) as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusion.assembly import (
    Given,
    build_objective,
    check_widths,
    compile_network,
    given_weights,
    make_accelerator,
    recorded_weights,
)
from fusion.averaging import Average
from fusion.batch import Batch
from fusion.checkpoints import (
    Checkpoint,
    fill,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from fusion.faults import Seen, advice, check_losses
from fusion.objective import gradient_shares
from fusion.progress import Live
from fusion.reader import Cache, IndexedReader, open_pairs
from fusion.recipe import Recipe
from fusion.run import (
    Log,
    Origin,
    check_store,
    describe_store,
    describe_weights,
    model_card,
    prepare_folder,
    read_origin,
    revision,
    versions,
    write_origin,
)
from fusion.step import all_keys, first_pair, take_step
from fusion.stream import StreamReader
from fusion.validation import BEST, validate
from fusion.weights import save_weights
from pipeline.store import Store


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a call of the trainer left: the run folder, the step it stands at, whether it is complete, metrics."""

    run: Path
    step: int
    finished: bool
    metrics: dict[str, float]


def start_run(
    recipe: Recipe,
    stores: Sequence[str | Path],
    out: Path,
    *,
    teachers: Sequence[str | Path] = (),
    start_from: str | Path | None = None,
    minutes: float = 0,
    overwrite: bool = False,
) -> Result:
    """Begin a run in ``out``. ``start_from``: weights to go on from, else fresh ones.

    ``teachers``: weights to distil from, one for all stores or one for each, in their order. ``minutes``: stop cleanly after that long (0: never).

    Raises InputError when ``out`` already holds a run, and what stores, weights and recipes raise.
    """
    prepare_folder(out, overwrite=overwrite)
    opened = [Store.open(location) for location in stores]
    given = given_weights(start_from, teachers, len(opened))
    origin = Origin(
        recipe=recipe,
        stores=tuple(describe_store(store, recipe.prior) for store in opened),
        teachers=tuple(describe_weights(teacher) for teacher in given.teachers),
        versions=versions(),
        revision=revision(),
        start=describe_weights(given.start) if given.start else None,
    )
    return _train(origin, given, opened, out, minutes=minutes, fresh=True)


def resume_run(run: Path, recipe: Recipe | None = None, *, minutes: float = 0) -> Result:
    """Go on with a run from its newest checkpoint, or from the start if it has none."""
    origin = read_origin(run)
    if recipe is not None:
        origin = replace(origin, recipe=recipe)
    opened = [Store.open(saved["location"]) for saved in origin.stores]
    for saved, store in zip(origin.stores, opened, strict=True):
        check_store(saved, store)
    return _train(origin, recorded_weights(origin), opened, run, minutes=minutes, fresh=False)


def _train(origin: Origin, given: Given, stores: Sequence[Store], out: Path, *, minutes: float, fresh: bool) -> Result:
    recipe = origin.recipe
    accelerator = make_accelerator(recipe, out)
    main = accelerator.is_main_process
    torch.manual_seed(recipe.seed)

    cache = Cache(recipe.cache_mb * 2**20)
    opened = [open_pairs(store, recipe, cache, number) for number, store in enumerate(stores)]
    training, held = [pair[0] for pair in opened], [pair[1] for pair in opened]
    check_widths(training)
    objective = build_objective(recipe, given, training[0])
    network = objective.network
    average = Average(network, recipe.ema)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    checkpoint = None if fresh else load_checkpoint(out)
    first, best, running = 0, None, None
    if checkpoint is not None:
        fill(objective, checkpoint.tensors["model"], "model")
        average.load(checkpoint.tensors["ema"])
        first, best, running = checkpoint.step, checkpoint.state["best"], checkpoint.state["running"]
    if recipe.compile:
        compile_network(network)
    trainee, optimizer = accelerator.prepare(objective, optimizer)
    if checkpoint is not None:  # after prepare: the parameters are on their device by now
        restore_optimizer(optimizer.optimizer, objective, checkpoint.tensors["optimizer"])
    average.shadow = {name: value.to(accelerator.device) for name, value in average.shadow.items()}
    if objective.distillation is not None:
        for teacher in objective.distillation.teachers:
            teacher.to(accelerator.device)
    if checkpoint is not None and accelerator.scaler is not None and checkpoint.state["scaler"]:
        accelerator.scaler.load_state_dict(checkpoint.state["scaler"])

    kind = StreamReader if recipe.reader == "stream" else IndexedReader
    reader = kind(training, recipe, accelerator.process_index, accelerator.num_processes)
    if main:
        if fresh:
            write_origin(out, origin)
        log = Log(out, first)
    accelerator.wait_for_everyone()

    def save(step: int, metrics: dict[str, float]) -> None:
        tensors = {
            "model": objective.state_dict(),
            "ema": average.shadow,
            "optimizer": optimizer_tensors(optimizer, objective),
        }
        scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
        state = {"best": best, "running": running, "scaler": scaler}
        save_checkpoint(out, Checkpoint(step=step, tensors=tensors, state=state), recipe.keep_checkpoints)
        write_model(out, origin, network, average, step, metrics, [len(pairs) for pairs in training])

    metrics: dict[str, float] = dict(best["metrics"]) if best else {}
    recent: list[Seen] = []
    began, step = time.monotonic(), first
    with ExitStack() as stack:
        live = stack.enter_context(Live(recipe, first, enabled=main))
        if recipe.trackers:
            accelerator.init_trackers("fusioncli", config=_flat(recipe))
            stack.callback(accelerator.end_training)
        batches = _timed(reader.steps(first, recipe.steps))
        for step, (parts, waited) in enumerate(batches, start=first):
            rate = learning_rate(recipe, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            try:
                outcomes, norm = take_step(accelerator, trainee, optimizer, parts, recipe)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                told = advice(error, recipe)
                if told is error:
                    raise
                raise told from error
            average.update(network, step)
            done = step + 1
            terms = {name: torch.stack([o[name] for o in outcomes]).mean() for name in outcomes[0]}
            keys = tuple(key for part in parts for key in part.keys)
            recent.append(Seen(step=done, keys=keys, loss=torch.stack(list(terms.values())).sum()))
            live.count(recipe.batch_size, waited)

            last = done == recipe.steps or _leave(accelerator, began, minutes)
            saving = last or done % recipe.checkpoint_every == 0
            if done % recipe.log_every == 0 or saving:
                # Reading the losses waits for the device, so it is not done at every step.
                names = list(terms)
                values = accelerator.reduce(torch.stack([terms[name] for name in names]), "mean").tolist()
                running = check_losses(accelerator, recent, running, recipe, out)
                recent.clear()
                record: dict[str, Any] = {
                    "step": done,
                    "loss": sum(values),
                    "terms": dict(zip(names, values, strict=True)),
                }
                record |= {"lr": rate, "gradient_norm": float(norm), "keys": all_keys(accelerator, parts)}
                if done % recipe.shares_every < recipe.log_every and main:
                    live.shares = gradient_shares(objective, first_pair(parts[0]).to(accelerator.device))
                    record["shares"] = live.shares
                record |= live.rates()
                if main:
                    log.write(record)
                    live.show(done, record)
                if recipe.trackers:
                    accelerator.log({"loss": record["loss"], "lr": rate, **record["terms"]}, step=done)
            if done % recipe.validate_every == 0 or done == recipe.steps:
                if main:
                    picture = out / "pictures" / f"step-{done:08d}.png"
                    with average.in_place_of(network), live.paused():
                        metrics = validate(
                            objective, held, recipe.validation_crop, accelerator.device, recipe.pictures, picture
                        )
                    log.write({"step": done, "validation": metrics})
                    live.validated(done, metrics)
                    if metrics and (best is None or metrics[BEST] < best["metrics"][BEST]):
                        best = {"step": done, "metrics": metrics}
                        counts = [len(pairs) for pairs in training]
                        write_model(out / "best", origin, network, average, done, metrics, counts)
                if recipe.trackers:
                    accelerator.log({f"validation/{name}": value for name, value in metrics.items()}, step=done)
                accelerator.wait_for_everyone()
            if saving:
                if main:
                    save(done, metrics)
                accelerator.wait_for_everyone()
            step = done
            if last:
                break
    finished = step >= recipe.steps
    return Result(run=out, step=step, finished=finished, metrics=metrics)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then one cosine from ``lr`` to ``final_lr`` over the rest of the run; ``step`` from 0."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    progress = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.final_lr + (recipe.lr - recipe.final_lr) * (1 + math.cos(math.pi * progress)) / 2


def write_model(
    folder: Path,
    origin: Origin,
    network: nn.Module,
    average: Average,
    step: int,
    metrics: dict[str, float],
    pairs: list[int],
) -> None:
    """Weights, config and card of the averaged network."""
    state = {**network.state_dict(), **average.shadow}
    parameters = sum(value.numel() for value in average.shadow.values())
    extra = {"step": step, "metrics": metrics, "training": origin.as_dict()}
    save_weights(folder, network, model_card(origin, step, parameters, metrics, pairs), extra, state)


def _leave(accelerator: Any, began: float, minutes: float) -> bool:
    """Whether time is up; the main process decides for all."""
    if not minutes:
        return False
    late = torch.tensor([float(time.monotonic() - began > 60 * minutes)], device=accelerator.device)
    return bool(accelerator.reduce(late, "sum").item() > 0)


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


__all__ = ["Result", "resume_run", "start_run"]
