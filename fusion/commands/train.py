"""``fusioncli train-teacher`` and ``fusioncli distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="A data set: its store is stores/NAME.")]
Stores = Annotated[list[str] | None, typer.Option("--store", help="A store, folder or URL; several are mixed.")]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="A recipe by name, or a YAML file. Default: the paper's for the store's task."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value over the recipe; may be repeated.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME-teacher or -student.")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on with a run; nothing else is needed.")]
Prior = Annotated[str | None, typer.Option("--prior", help="Which prior of the store to use. Default: the recipe's.")]
Reader = Annotated[str | None, typer.Option("--reader", help="indexed or stream. Default: the recipe's.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network first (slow start, faster steps).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")]
Minutes = Annotated[float, typer.Option("--minutes", help="Stop cleanly after so long, to be resumed. 0: never.")]


def train_teacher(
    dataset: Datasets = None,
    store: Stores = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = None,
    prior: Prior = None,
    reader: Reader = None,
    compile_network: Compile = False,
    minutes: Minutes = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train a text-guided teacher from a store.

    Example: fusioncli train-teacher --dataset roadscene --recipe tiny
    """
    chosen = _settings(settings, prior, reader, compile_network)
    if resume:
        _resume("teacher", resume, settings, minutes)
    else:
        _start("teacher", dataset, store, recipe, chosen, out, None, minutes, overwrite)


def distill(
    dataset: Datasets = None,
    store: Stores = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="Weights to learn from. Default: runs/NAME-teacher; none: no teacher."),
    ] = None,
    recipe: RecipeName = None,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = None,
    prior: Prior = None,
    reader: Reader = None,
    compile_network: Compile = False,
    minutes: Minutes = 0,
    overwrite: Overwrite = False,
) -> None:
    """Distil a student, which needs no text, from a teacher and the store.

    Example: fusioncli distill --dataset roadscene --recipe tiny
    """
    chosen = _settings(settings, prior, reader, compile_network)
    if resume:
        _resume("student", resume, settings, minutes)
    else:
        _start("student", dataset, store, recipe, chosen, out, teacher, minutes, overwrite)


def _settings(settings: list[str] | None, prior: str | None, reader: str | None, compile_network: bool) -> list[str]:
    named = {"prior": prior, "reader": reader, "compile": "true" if compile_network else None}
    return [*(settings or []), *(f"{key}={value}" for key, value in named.items() if value)]


def _start(
    stage: str,
    datasets: list[str] | None,
    stores: list[str] | None,
    recipe: str | None,
    settings: list[str],
    out: Path | None,
    teacher: str | None,
    minutes: float,
    overwrite: bool,
) -> None:
    from fusion.recipe import load_recipe
    from fusion.training import start_run
    from pipeline.errors import InputError
    from pipeline.store import Store

    locations = [*(stores or []), *(f"stores/{name}" for name in datasets or [])]
    if not locations:
        raise InputError("name what to train on: --dataset NAME (reads stores/NAME) or --store DIR; or --resume RUN")
    headers = [Store.open(location).header for location in locations]
    name = "+".join(header.dataset for header in headers)
    resolved = load_recipe(recipe or f"paper-{headers[0].task}", stage, settings)
    if stage == "student" and teacher != "none" and set(resolved.factors()) & {"features", "output"}:
        teacher = teacher or f"runs/{name}-teacher"
        if not Path(teacher).exists() and teacher.startswith("runs/"):
            raise InputError(
                f"{teacher}: no teacher there; train one with `fusioncli train-teacher`, or name it with --teacher"
            )
    else:
        teacher = None
    result = start_run(
        resolved, locations, out or Path("runs") / f"{name}-{stage}", teacher, minutes=minutes, overwrite=overwrite
    )
    _report(result.run, result.step, resolved.steps)


def _resume(stage: str, run: Path, settings: list[str] | None, minutes: float) -> None:
    from fusion.recipe import change_recipe
    from fusion.run import read_origin
    from fusion.training import resume_run
    from pipeline.errors import InputError

    recipe = read_origin(run).recipe
    if recipe.stage != stage:
        other = "train-teacher" if recipe.stage == "teacher" else "distill"
        raise InputError(f"{run}: a {recipe.stage}'s run; go on with `fusioncli {other} --resume {run}`")
    result = resume_run(run, change_recipe(recipe, settings or []), minutes=minutes)
    _report(result.run, result.step, recipe.steps)


def _report(run: Path, step: int, steps: int) -> None:
    from accelerate import PartialState

    from pipeline.console import answers

    if not PartialState().is_main_process:
        return
    rest = "" if step >= steps else f"; go on with --resume {run}"
    answers().print(f"{run}: step {step} of {steps}{rest}", markup=False, soft_wrap=True)
