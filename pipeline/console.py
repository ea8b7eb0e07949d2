"""What the commands print: progress on standard error, answers on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.atomic import write_text
from pipeline.errors import InputError
from pipeline.words import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
    from rich.progress import Progress

UNBROKEN = 12  # letters of a word that a table never breaks
BORDER = 3  # what a column of a table takes beside its text

_state = {"quiet": False}


def set_quiet(quiet: bool) -> None:
    """Silence progress and notes (never errors or answers)."""
    _state["quiet"] = quiet


def is_quiet() -> bool:
    """Whether progress and notes are silenced."""
    return _state["quiet"]


@cache
def console() -> Console:
    """The console for progress and notes (standard error; honours NO_COLOR)."""
    return _printing_console(stderr=True)


@cache
def answers() -> Console:
    """The console for tables and answers (standard output)."""
    return _printing_console(width=None if sys.stdout.isatty() else 200)


def _printing_console(**settings: Any) -> Console:
    """A console that hands no control character on but its own."""
    from rich.console import Console
    from rich.segment import Segment

    class Printing(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable(text), style, control)

    return Printing(highlight=False, **settings)


def note(message: str) -> None:
    """One line about what is going on."""
    if not _state["quiet"]:
        console().print(message, markup=False, soft_wrap=True)


def progress(*columns: str, below: Sequence[str] = ()) -> Progress:
    """A progress bar: description, bar, count, the given extra task fields, elapsed and remaining time.

    The task fields named by ``below`` stand on lines of their own under it, wrapped to the terminal's width.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Lines(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            texts = (str(task.fields[name]) for task in self.tasks for name in below)
            yield from (Text(text) for text in texts if text)

    extra = [TextColumn("{task.fields[" + name + "]}") for name in columns]
    return Lines(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *extra,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(),
        disable=_state["quiet"],
    )


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to standard output; numbers are right-aligned, nothing is cut off.

    Where a terminal is too narrow for it, the columns come in several tables, the first column in each.
    """
    from rich.markup import escape
    from rich.table import Table

    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    short = 2 * max(len(line[0]) for line in [header, *texts]) < answers().width  # then a row's name stays on one line
    parts = _parts([list(header), *texts], answers().width if sys.stdout.isatty() else None)
    for part in parts:
        table = Table(title=escape(title) if part is parts[0] else None, title_justify="left")
        for index in part:
            numeric = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
            side: JustifyMethod = "right" if numeric else "left"
            table.add_column(escape(header[index]), justify=side, overflow="fold", no_wrap=index == 0 and short)
        for row in texts:
            table.add_row(*(escape(row[index]) for index in part))
        answers().print(table)


def _parts(lines: Sequence[Sequence[str]], width: int | None) -> list[list[int]]:
    """Which columns stand together: all, unless words of up to ``UNBROKEN`` letters would be broken to fit ``width``."""
    columns = range(len(lines[0]))
    words = [max(len(word) for line in lines for word in [*line[index].split(), ""]) for index in columns]
    if width is None or sum(min(word, UNBROKEN) + BORDER for word in words) < width:
        return [list(columns)]
    whole = [max(len(line[index]) for line in lines) + BORDER for index in columns]
    parts: list[list[int]] = []
    for index in columns[1:]:
        if parts and whole[0] + sum(whole[one] for one in parts[-1][1:]) + whole[index] < width:
            parts[-1].append(index)
        else:
            parts.append([0, index])
    return parts


def check_json(destination: str | None, out: Path | None = None) -> None:
    """Raises InputError where no file can be written at ``destination``, or ``out`` will be, before hours of work end there."""
    if destination is not None and destination != "-":
        check_file("--json", destination, ("{", "["))
        if out is not None and out.resolve() == Path(destination).resolve():
            raise InputError(f"--json {destination}: the file of --out; name another")


def check_file(option: str, destination: str | Path, begins: tuple[str, ...]) -> None:
    """Raises InputError where ``option`` names no place for a file: nothing, a folder, or a folder that is not there.

    Nor is a file replaced that ``begins`` with something else than what would be written: it is not of this command.
    """
    path = Path(destination)
    if path.is_dir() or not path.parent.is_dir():
        reason = f"no folder {path.parent}" if not path.is_dir() else "a folder" if str(destination) else "no name"
        raise InputError(f"{option} {str(destination) or repr('')}: {reason}; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {destination}: no regular file, and would be replaced by one; name a file")
    if path.is_file() and (start := _start(path)) and not start.startswith(begins):
        raise InputError(f"{option} {destination}: holds something else, which would be replaced; name another file")


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(256).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")


def emit_json(value: object, destination: str) -> None:
    """Write ``value`` as JSON to the file ``destination``, or to standard output for ``-``.

    Letters stand as they are, and escaped where what is written to cannot hold them.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode(sys.stdout.encoding if destination == "-" else "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    else:
        write_text(Path(destination).resolve(), text)  # a link stays one
