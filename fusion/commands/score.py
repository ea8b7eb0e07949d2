"""``fusioncli score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    visible: Annotated[Path, typer.Argument(help="Visible (or CT, PET, SPECT) image or folder.")],
    infrared: Annotated[Path, typer.Argument(help="Infrared (or MRI) image or folder.")],
    fused: Annotated[Path, typer.Argument(help="Fused image or folder, from anybody; matched by stem.")],
    convention: Annotated[
        str, typer.Option(help="Whose script to compute as: standard, dtpf, dtpf-grey, zoo, cddfuse.")
    ] = "standard",
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas between; 'usual' (the default thirteen) and 'all' count as names."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out images that are not in all three folders; say how many.")
    ] = False,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Folder of label files (stem.txt: class cx cy w h): also score what targets keep."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write remembered scores.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, …")] = "cpu",
    json: Annotated[str | None, typer.Option(help="Write JSON to this file (- is standard output).")] = None,
) -> None:
    """Score fused images under a named convention.

    Example: fusioncli score data/msrs/test/vi data/msrs/test/ir fused --metrics EN,VIF,Qabf --json scores.json
    """
    from fusion.devices import device_named
    from fusion.metrics import CONVENTIONS, METRICS
    from fusion.score import names_in
    from fusion.scoring import score_files
    from fusion.tables import ARROWS
    from fusion.targets import TARGET_UNITS
    from pipeline.console import check_json, emit_json, show_table

    check_json(json)
    names = names_in(metrics, convention)
    card = score_files(
        visible,
        infrared,
        fused,
        convention=convention,
        names=names,
        allow_missing=allow_missing,
        cached=not no_cache,
        device=str(device_named(device)),
        boxes=boxes,
    )
    if json is not None:
        emit_json(card.as_json(), json)
        if json == "-":
            return
    rows = []
    for name in card.names:
        mean, undefined = card.mean(name), card.undefined(name)
        shown = "undefined" if mean is None else f"{mean:.4f}"
        if name in METRICS:
            arrow, unit = ARROWS[METRICS[name].better], CONVENTIONS[convention].unit(name)
        else:
            arrow, unit = ARROWS["higher"], TARGET_UNITS[name]
        rows.append((name, arrow, shown, unit, len(card.images) - undefined, undefined))
    left_out = f", {card.missing} left out" if card.missing else ""
    title = f"{len(card.images)} image{'s' * (len(card.images) != 1)}{left_out}, convention {card.convention}"
    show_table(title, ("metric", "better", "mean", "unit", "images", "undefined"), rows)
