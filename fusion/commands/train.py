"""``fusioncli train-teacher`` and ``fusioncli distill``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from fusion.recipe import Recipe
    from pipeline.store import Header

# what a resumed run was started with: options that it would not read
STARTED_WITH = ("dataset", "store", "recipe", "out", "start_from", "overwrite")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What both commands take: every field is an option of the command line."""

    dataset: Annotated[list[str] | None, typer.Option(help="A data set: its store is stores/NAME.")] = None
    store: Annotated[list[str] | None, typer.Option(help="A store, folder or URL; several are mixed.")] = None
    recipe: Annotated[
        str | None, typer.Option(help="A recipe by name, or a YAML file. Default: the paper's for the store's task.")
    ] = None
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value over the recipe; may be repeated.")] = (
        None
    )
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder. Default: runs/NAME-teacher or -student, NAME being the data set's or the store's."
        ),
    ] = None
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Weights to go on from, of the same network (for a teacher, also of it without text): edge, or a folder. Default: fresh ones."
        ),
    ] = None
    resume: Annotated[Path | None, typer.Option(help="Go on with a run; nothing else is needed.")] = None
    prior: Annotated[str | None, typer.Option(help="Which prior of the store to use. Default: the recipe's.")] = None
    reader: Annotated[str | None, typer.Option(help="indexed or stream. Default: the recipe's.")] = None
    compile_network: Annotated[
        bool, typer.Option("--compile", help="Compile the network first (slow start, faster steps).")
    ] = False
    minutes: Annotated[float, typer.Option(help="Stop cleanly after so long, to be resumed. 0: never.")] = 0
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False

    @property
    def changes(self) -> list[str]:
        """All that is set over the recipe, as key=value."""
        named = {"prior": self.prior, "reader": self.reader, "compile": "true" if self.compile_network else None}
        return [*(self.settings or []), *(f"{key}={value}" for key, value in named.items() if value)]


def _takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command(options, …)`` as typer wants it: a function with one parameter for each option, and the command's own."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    kinds = get_type_hints(Options, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name]
        )
        for field in fields(Options)
    ]

    @functools.wraps(command)
    def call(**values: Any) -> None:
        rest = {parameter.name: values.pop(parameter.name) for parameter in own}
        command(Options(**values), **rest)

    parameters = [*own, *shared]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


@_takes_options
def train_teacher(options: Options) -> None:
    """Train a text-guided teacher from a store.

    Example: fusioncli train-teacher --dataset roadscene --recipe tiny
    """
    _train("teacher", options)


@_takes_options
def distill(
    options: Options,
    *,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights to learn from, once for all stores or once for each. Default: runs/NAME-teacher; none: no teacher."
        ),
    ] = None,
) -> None:
    """Distil a student, which needs no text, from a teacher and the store.

    Example: fusioncli distill --dataset roadscene --recipe tiny
    """
    _train("student", options, teacher)


def _train(stage: str, options: Options, teachers: list[str] | None = None) -> None:
    from pipeline.errors import InputError

    if not options.minutes >= 0:
        raise InputError(f"--minutes {options.minutes:g}: a number of minutes, or 0 for no limit")
    if options.resume:
        _resume(stage, options.resume, options, teachers or [])
    else:
        _start(stage, options, teachers or [])


def _start(stage: str, options: Options, teachers: list[str]) -> None:
    from fusion.recipe import load_recipe
    from fusion.training import start_run
    from pipeline.errors import InputError
    from pipeline.store import Store

    locations = [*(options.store or []), *(f"stores/{name}" for name in options.dataset or [])]
    if not locations:
        raise InputError("name what to train on: --dataset NAME (reads stores/NAME) or --store DIR; or --resume RUN")
    headers = [Store.open(location).header for location in locations]
    name = "+".join(map(_data_name, headers, locations))
    resolved = load_recipe(options.recipe or f"paper-{headers[0].task}", stage, options.changes)
    out = options.out or Path("runs") / f"{name}-{stage}"
    result = start_run(
        resolved,
        locations,
        out,
        teachers=_teachers(teachers, resolved, f"runs/{name}-teacher"),
        start_from=options.start_from,
        minutes=options.minutes,
        overwrite=options.overwrite,
    )
    _report(result.run, result.step, resolved.steps)


def _teachers(given: list[str], recipe: Recipe, usual: str) -> list[str]:
    """The weights to distil from: those given, else the ``usual`` ones where a term of the loss looks at a teacher.

    Raises InputError: "none" beside others, a teacher that nothing looks at, a run that is not there.
    """
    from fusion.loss_terms import DISTILLATION_TERMS
    from pipeline.errors import InputError

    looks = any(term in DISTILLATION_TERMS for term in recipe.factors())
    if "none" in given:
        if len(given) > 1:
            raise InputError("--teacher none stands alone: leave it out, or the others")
        return []
    if not looks:
        if given:
            raise InputError(
                f"--teacher: the recipe {recipe.name} has no loss term that looks at a teacher; --set loss.output=2 adds one"
            )
        return []
    chosen = given or [usual]
    for teacher in chosen:
        if not Path(teacher).exists() and teacher.startswith("runs/"):
            raise InputError(
                f"{teacher}: no teacher there; train one with `fusioncli train-teacher`, or name it with --teacher"
            )
    return chosen


def _data_name(header: Header, location: str) -> str:
    """What runs on a store are called after: its data set, or the store itself where it holds two folders without a name."""
    from pipeline.manifest import folder_manifest

    if header.dataset != folder_manifest().name:
        return header.dataset
    return Path(location.rstrip("/")).name or header.dataset


def _resume(stage: str, run: Path, options: Options, teachers: list[str]) -> None:
    from fusion.recipe import COMMANDS, change_recipe
    from fusion.run import read_origin
    from fusion.training import resume_run
    from pipeline.errors import InputError

    given = {name: getattr(options, name) for name in STARTED_WITH} | {"teacher": teachers}
    unread = [f"--{name.replace('_', '-')}" for name, value in given.items() if value]
    if unread:
        raise InputError(
            f"{', '.join(unread)}: --resume goes on with {run} as it was started, in its own folder; leave out all but "
            "--set and --minutes, or start a new run without --resume"
        )
    recipe = read_origin(run).recipe
    if recipe.stage != stage:
        raise InputError(
            f"{run}: a {recipe.stage}'s run; go on with `fusioncli {COMMANDS[recipe.stage]} --resume {run}`"
        )
    result = resume_run(run, change_recipe(recipe, options.changes), minutes=options.minutes)
    _report(result.run, result.step, recipe.steps)


def _report(run: Path, step: int, steps: int) -> None:
    from accelerate import PartialState

    from pipeline.console import answers

    if not PartialState().is_main_process:
        return
    rest = "" if step >= steps else f"; go on with --resume {run}"
    answers().print(f"{run}: step {step} of {steps}{rest}", markup=False, soft_wrap=True)
