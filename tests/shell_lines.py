"""Commands as documents and container files print them: held against the real command line without running them."""

from __future__ import annotations

import re
import shlex
from itertools import dropwhile
from pathlib import Path

import typer

import cli
from command_line import REPOSITORY


def check_arguments(words: list[str]) -> str:
    """Parse the arguments of a ``fusioncli`` call to the end; the command's name. Raises the parser's usage errors."""
    command = typer.main.get_command(cli.app)
    context = None
    try:
        while True:
            context = command.make_context(command.name, list(words), parent=context)
            if not isinstance(command, typer.core.TyperGroup):
                return context.command_path
            words = [*context._protected_args, *context.args]
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            command = found
    except (typer.Exit, SystemExit) as left:  # --help and the like answer at once
        assert not getattr(left, "code", 0)
        return context.command_path if context else "fusioncli"


def check_line(line: str) -> None:
    """Check one shell line by the program that it starts. Raises AssertionError, or the parser's usage error."""
    words = list(dropwhile(lambda word: re.match(r"[A-Z_]+=", word), shlex.split(line, comments=True)))
    match words:
        case ["fusioncli", *rest] | ["accelerate", "launch", "-m", "cli", *rest]:
            check_arguments(rest)
        case ["make", *targets]:
            makefile = (REPOSITORY / "Makefile").read_text()
            for target in targets:
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"no make target {target}"
        case ["pip", "install", *packages]:
            extras = (REPOSITORY / "pyproject.toml").read_text()
            for package in packages:
                for extra in re.findall(r"fusioncli\[([a-z,]+)\]", package):
                    assert all(re.search(rf"^{one} = \[", extras, re.MULTILINE) for one in extra.split(","))
        case ["export", *settings]:
            assert all(re.match(r"[A-Z_]+=", setting) for setting in settings), line
        case ["docker", "run", *rest]:
            image = next(index for index, word in enumerate(rest) if word.startswith("fusioncli:"))
            check_arguments(rest[image + 1 :])
        case ["docker", *rest] | ["ray", *rest] | ["sbatch", *rest]:
            assert any(files_in(rest)), f"{line}: names no file"
            for file in files_in(rest):
                assert file.is_file(), f"{line}: no {file}"
            for inner in rest:
                if inner.startswith("fusioncli "):
                    check_line(inner)
            if "run" in rest:  # of a service, whose own words those behind its name replace
                own = rest[rest.index("run") + 3 :]
                assert rest[rest.index("run") + 1] == "--rm", line
                assert not own or check_arguments(own)
        case [program, *_] if program in ("vllm", ".venv/bin/pre-commit"):
            pass
        case _:
            raise AssertionError(f"nothing checks {line!r}")


def files_in(words: list[str]) -> list[Path]:
    """The repository's files among a command's words."""
    return [REPOSITORY / word for word in words if re.fullmatch(r"[\w./-]+\.(Dockerfile|yaml|sh|sbatch|slurm)", word)]
