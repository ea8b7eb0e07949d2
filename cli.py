"""The command line: parses, calls one function, turns expected failures into one sentence and an exit code.

Heavy imports happen inside the commands, so that ``fusioncli --help`` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from fusion.commands.bench import bench
from fusion.commands.demo import demo
from fusion.commands.doctor import doctor
from fusion.commands.export import export
from fusion.commands.fuse import fuse
from fusion.commands.nets import nets
from fusion.commands.quickstart import quickstart
from fusion.commands.score import score
from fusion.commands.text_study import text_study
from fusion.commands.train import distill, train_teacher
from pipeline.commands.caption import caption
from pipeline.commands.data import data
from pipeline.commands.help import show_help
from pipeline.commands.store import store_app
from pipeline.words import printable

# Packages of object stores, whose errors are of no built-in kind.
OBJECT_STORES = frozenset({"aiohttp", "botocore", "aiobotocore", "gcsfs", "google", "azure"})

ENDINGS = {129: "SIGHUP", 143: "SIGTERM"}  # a closed terminal; systemd, a cluster, `timeout`

app = typer.Typer(
    name="fusioncli",
    help="Fuse infrared and visible, or CT/PET/SPECT and MRI, image pairs with small networks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def show_version(wanted: bool) -> None:
    """Print the installed version and leave."""
    if wanted:
        from importlib.metadata import version

        typer.echo(version("fusioncli"))
        raise typer.Exit


@app.callback()
def options(
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress bars and notes; errors and answers stay.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version
    if quiet:
        from pipeline.console import set_quiet

        set_quiet(True)


# What most people use comes first; the summaries fit on a line of 80 columns.
app.command(
    short_help="Fuse two images, two folders of them, or two videos.", context_settings={"allow_extra_args": True}
)(fuse)
app.command(short_help="Serve a page on this machine for fusing and looking.")(demo)
app.command(short_help="Run the whole line on drawn pairs, in minutes.")(quickstart)
app.command(short_help="Say what this machine can run and what is missing.")(doctor)
app.add_typer(data)
app.command(short_help="Caption, embed, weigh and pack pairs into a store.")(caption)
app.add_typer(store_app, name="store")
app.command(short_help="Train a text-guided teacher from a store.")(train_teacher)
app.command(short_help="Distil a student, which needs no text.")(distill)
app.command(short_help="Write a network for another engine.")(export)
app.command(short_help="Score fused images under a named convention.")(score)
app.command(short_help="Score methods on data sets: tables and a page.")(bench)
app.command(short_help="Measure what the text is worth.")(text_study)
app.command(short_help="List the networks and their cost.")(nets)
app.command("help", short_help="Explain a topic or a command.")(show_help)


def main() -> None:
    """Run the command line and leave with its exit code."""
    from pipeline.allocator import keep_freed_memory
    from pipeline.errors import FusionError, InputError

    open_streams()
    keep_freed_memory()
    heed_endings()
    if isinstance(sys.stdout, io.TextIOWrapper):  # letters that a terminal or file cannot hold are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        words = ["fusioncli", *sys.argv[1:]]
        if "" in words:  # as a path it would mean this folder, as a name everything
            before = words[words.index("") - 1]
            raise InputError(f"nothing after {before}, only empty quotes; is a variable of the shell unset?")
        app()
    except FusionError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except SystemExit as leaving:
        if leaving.code == 130:  # Typer's answer to Ctrl-C, without a word
            fail("interrupted", 130)
        if leaving.code in ENDINGS:
            fail(f"ended by {ENDINGS[leaving.code]}", leaving.code)
        raise
    except MemoryError:
        fail("out of memory; ask for smaller images, fewer at once, or --tile where the command has it", 1)
    except OSError as error:
        fail(sentence(error), 1)
    except Exception as error:
        if type(error).__module__.split(".")[0] not in OBJECT_STORES:
            raise
        fail(f"the object store: {str(error) or type(error).__name__}", 1)


def open_streams() -> None:
    """Give the standard streams that are closed an empty file, before another file is opened in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the process


def heed_endings() -> None:
    """Let these signals, unless they are shut out (nohup), end the process as an error does: nothing half written stays."""
    for name in ENDINGS.values():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def end(number: int, frame: FrameType | None) -> None:
    """Leave with the exit code of a process that this signal ended."""
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice, and what tidies up is not to be disturbed
    raise SystemExit(128 + number)


def sentence(error: OSError) -> str:
    """One sentence for an operating-system error, with its path."""
    where = f"{error.filename}: " if error.filename else ""
    reasons = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EACCES: "no permission; choose another place or change its rights",
        errno.EROFS: "the file system is read-only; choose another place",
        errno.ENAMETOOLONG: "the name is too long",
    }
    return where + reasons.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)


def fail(message: str, code: int) -> None:
    """Print one line to standard error and leave."""
    sys.stderr.write(f"fusioncli: {printable(message)}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
