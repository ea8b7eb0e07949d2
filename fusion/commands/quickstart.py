"""``fusioncli quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("quickstart"),
    pairs: Annotated[int, typer.Option(min=10, help="Pairs to draw; every fifth is held out.")] = 40,
    seed: Annotated[int, typer.Option(help="Another seed draws other scenes.")] = 7,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over both recipes, for example steps=20.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the scores as JSON to this file (- is standard output).")
    ] = None,
) -> None:
    """Run the whole line on drawn pairs: caption, train, distil, fuse, score. Some minutes on two CPU cores.

    No network, no GPU, no download; ends with a table and one HTML page with the pictures.

    Example: fusioncli quickstart --out quickstart
    """
    from fusion.quickstart import SHOWN, QuickstartOptions, next_commands
    from fusion.quickstart import quickstart as run
    from fusion.results import only
    from fusion.tables import console_table
    from pipeline.agreement import agreement_rows
    from pipeline.console import check_json, emit_json, note, show_table

    check_json(json)
    done = run(QuickstartOptions(out=out, pairs=pairs, seed=seed, settings=tuple(settings or ())))
    if json is not None:
        emit_json(done.bench.as_json(), json)
    if json != "-":
        header = ("event", "right", "named, not there", "there, not named", "precision", "recall")
        show_table("The captioner against the drawn truth", header, agreement_rows(done.captions))
        show_table(*console_table(only(done.bench.datasets[0], SHOWN)))
    note(f"\nOpen the pictures: {done.page}\n\nNext, on your own pairs:")
    for command in next_commands():
        note(f"  {command}")
