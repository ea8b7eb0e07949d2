"""Beginning a run and going on with one: a teacher from stores, a student from stores and its teachers.

One command trains on one device; the same command under ``accelerate launch`` on many. ``fusion.loop`` takes the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fusion.assembly import given_weights, recorded_weights
from fusion.checkpoints import load_checkpoint
from fusion.loop import Loop, Result
from fusion.recipe import Recipe
from fusion.run import (
    Origin,
    check_folder,
    check_store,
    describe_store,
    describe_weights,
    read_origin,
    revision,
    versions,
)
from pipeline.store import Store

__all__ = ["Result", "resume_run", "start_run"]


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

    ``teachers``: weights to distil from, one for all stores or one for each, in their order. ``minutes``: stop cleanly
    after that long (0: never).

    Raises InputError when ``out`` already holds a run, and what stores, weights and recipes raise.
    """
    check_folder(out, (), overwrite=overwrite)
    opened = [Store.open(location) for location in stores]
    given = given_weights(start_from, teachers, len(opened))
    check_folder(out, [*given.teachers, *([given.start] if given.start else [])], overwrite=overwrite)
    origin = Origin(
        recipe=recipe,
        stores=tuple(describe_store(store, recipe.prior) for store in opened),
        teachers=tuple(describe_weights(teacher) for teacher in given.teachers),
        versions=versions(),
        revision=revision(),
        start=describe_weights(given.start) if given.start else None,
    )
    return Loop(origin, given, opened, out, checkpoint=None, replace=overwrite).run(minutes)


def resume_run(run: Path, recipe: Recipe | None = None, *, minutes: float = 0) -> Result:
    """Go on with a run from its newest checkpoint, or from the start if it has none.

    ``recipe``: the run's own with other operational keys (``change_recipe``). ``minutes``: stop cleanly after that long
    (0: never). Raises InputError where there is no run, StoreError and TrainingError where stores, weights or checkpoint
    are not those it was started with, and what they raise by themselves.
    """
    origin = read_origin(run)
    if recipe is not None:
        origin = replace(origin, recipe=recipe)
    opened = [Store.open(saved["location"]) for saved in origin.stores]
    for saved, store in zip(origin.stores, opened, strict=True):
        check_store(saved, store)
    return Loop(origin, recorded_weights(origin), opened, run, load_checkpoint(run)).run(minutes)
