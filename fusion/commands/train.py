"""``fusioncli train-teacher`` and ``fusioncli distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Data set whose store to read (stores/NAME).")]
Stores = Annotated[list[str] | None, typer.Option("--store", help="A store: folder or URL. Repeat for several.")]
RecipeName = Annotated[
    str | None, typer.Option(help="A recipe by name or YAML file; default: the task's paper recipe.")
]
Changes = Annotated[list[str] | None, typer.Option("--set", help="key=value on top of the recipe.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; default: runs/NAME-teacher or runs/NAME-student.")]
Resume = Annotated[Path | None, typer.Option(help="Continue this run; nothing else is needed.")]
Prior = Annotated[str | None, typer.Option(help="Which prior of the stores to train with.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")]


def train_teacher(
    dataset: Datasets = None,
    store: Stores = None,
    recipe: RecipeName = None,
    set: Changes = None,
    prior: Prior = None,
    out: Out = None,
    resume: Resume = None,
    overwrite: Overwrite = False,
) -> None:
    """Train the text-guided teacher from a captioned store.

    Example: fusioncli train-teacher --dataset msrs --recipe paper-ivf
    """
    _train("teacher", dataset, store, recipe, set, prior, out, resume, overwrite, None)


def distill(
    dataset: Datasets = None,
    store: Stores = None,
    recipe: RecipeName = None,
    set: Changes = None,
    prior: Prior = None,
    out: Out = None,
    resume: Resume = None,
    overwrite: Overwrite = False,
    teacher: Annotated[
        str | None, typer.Option(help="The teacher's run or weights; default: runs/NAME-teacher.")
    ] = None,
) -> None:
    """Distil a student that needs no text from a trained teacher.

    Example: fusioncli distill --dataset msrs --recipe paper-ivf
    """
    _train("student", dataset, store, recipe, set, prior, out, resume, overwrite, teacher)


def _train(
    stage: str,
    datasets: list[str] | None,
    stores: list[str] | None,
    recipe: str | None,
    changes: list[str] | None,
    prior: str | None,
    out: Path | None,
    resume: Path | None,
    overwrite: bool,
    teacher: str | None,
) -> None:
    from fusion.recipe import load_recipe
    from fusion.runs import RunPlan, begin_run, read_run
    from fusion.training import train
    from pipeline.console import note
    from pipeline.errors import InputError
    from pipeline.store import Store

    if resume is not None:
        if datasets or stores or recipe or changes or out or teacher:
            raise InputError("--resume takes everything from the run; give no other options with it")
        train(read_run(resume), resume)
        note(f"done: {resume}")
        return
    places = [*(stores or []), *(f"stores/{name}" for name in datasets or [])]
    if not places:
        raise InputError("name what to train on: --dataset NAME (reads stores/NAME) or --store DIR")
    opened = [Store.open(place) for place in places]
    name = "+".join(one.header.dataset for one in opened)
    overrides = [*(changes or []), *([f"prior={prior}"] if prior else [])]
    chosen = load_recipe(recipe or f"paper-{opened[0].header.task}", stage, overrides)
    if stage == "student" and teacher is None and (chosen.feature or chosen.output):
        default = Path("runs") / f"{name}-teacher"
        if not (default / "config.json").exists():
            raise InputError(f"no trained teacher at {default}; train one first, or name one with --teacher")
        teacher = str(default)
    run = out or Path("runs") / f"{name}-{stage}"
    digests = tuple(one.digest() for one in opened)
    plan = RunPlan(stage=stage, recipe=chosen, stores=tuple(places), store_digests=digests, teacher=teacher)
    begin_run(run, plan, overwrite)
    train(plan, run)
    note(f"done: {run}")
