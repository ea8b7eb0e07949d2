"""``fusioncli help``: topics that belong to no single command, and any command's own help."""

from __future__ import annotations

from typing import Annotated

import typer

LISTING = "topics"


def show_help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="TOPIC | COMMAND", help="'topics' lists them.")] = None,
) -> None:
    """Explain a topic or a command; without one, list the topics.

    Example: fusioncli help exit-codes
    """
    from importlib.resources import files

    from pipeline.errors import InputError, closest

    folder = files("pipeline") / "topics"
    texts = {item.name.removesuffix(".txt"): item for item in folder.iterdir() if item.name.endswith(".txt")}
    if not words or words == [LISTING]:
        typer.echo("TOPICS\n")
        for name in sorted(texts):
            typer.echo(f"  {name:<14}{texts[name].read_text(encoding='utf-8').splitlines()[2]}")
        typer.echo("\nfusioncli help TOPIC shows one; fusioncli help COMMAND is fusioncli COMMAND --help.")
        return
    if len(words) == 1 and words[0] in texts:
        typer.echo(texts[words[0]].read_text(encoding="utf-8"), nl=False)
        return
    found, root = context.find_root().command, context.find_root()
    inner = root
    for word in words:
        commands = getattr(found, "commands", {})
        if word not in commands:
            known = [*texts, *commands]
            raise InputError(
                f"no topic or command {' '.join(words)!r}{closest(word, known)}; see `fusioncli help topics`"
            )
        found = commands[word]
        inner = typer.Context(found, info_name=word, parent=inner)
    typer.echo(found.get_help(inner))
