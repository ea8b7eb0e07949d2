"""``fusioncli text-study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.augment import Bytes
    from fusion.text_study import Case


def text_study(
    store: Annotated[str, typer.Option(help="Store whose held-out pairs are degraded; folder or URL.")],
    arm: Annotated[
        list[str],
        typer.Option(
            help="NAME=WEIGHTS@TEXT, TEXT being true, shuffled or none. The first is what others are held to."
        ),
    ],
    split: Annotated[str, typer.Option(help="Split to degrade.")] = "test",
    prior: Annotated[str, typer.Option(help="Prior the texts come from; its embedder has to be hashing.")] = "text",
    label: Annotated[list[str] | None, typer.Option(help="Only this degradation; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only N evenly spaced pairs.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file of every score.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Pictures of each degradation at its strongest, three a page: NAME-STORE-1.png and so on."),
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the table as JSON to this file (- is standard output).")
    ] = None,
) -> None:
    """Measure what the text is worth: fuse drawn degradations with the true text, another one, and none.

    Scores are against the clean pair, PSNR against the same arm's fusion of it; means over pairs and severities.

    Example: fusioncli text-study --store stores/roadscene --arm "told=runs/guided@true" --arm "misled=runs/guided@shuffled"
    """
    from fusion.methods import NetworkMethod
    from fusion.report.sheet import check_sheet, write_sheet
    from fusion.text_sheet import Album
    from fusion.text_study import CLEAN, EVERY, SCORES, Arm, cases, conditions, gain, means, study, write_csv
    from pipeline.console import emit_json, progress, show_table
    from pipeline.errors import InputError
    from pipeline.store import Store

    arms = []
    for value in arm:
        name, found, rest = value.partition("=")
        weights, marked, text = rest.rpartition("@")
        if not (name and found and marked and weights):
            raise InputError(f"--arm {value!r}: expected NAME=WEIGHTS@TEXT, such as told=runs/guided@true")
        arms.append(Arm(name=name, method=NetworkMethod(name, weights), text=text))
    if len({one.name for one in arms}) < len(arms):
        raise InputError("two arms have the same name")
    opened = Store.open(store)
    wanted = conditions(tuple(opened.header.modalities), label or ())
    if sheet is not None:
        check_sheet(sheet)
    every = cases(opened, wanted, prior, split, limit)
    album = Album(every if sheet is not None else ())
    with progress() as bar:
        task = bar.add_task("degrading and fusing", total=len(every))

        def look(case: Case, seen: tuple[Tensor, Tensor], fused: dict[str, Bytes]) -> None:
            album.look(case, seen, fused)
            bar.advance(task)

        findings = study(opened, arms, every, prior=prior, look=look)
    if sheet is not None:
        write_sheet(sheet, opened.header.dataset, album.rows)
    rows = []
    for title in (*dict.fromkeys(condition.title for condition in wanted), EVERY):
        for one in arms:
            row: dict[str, object] = {"degradation": title, "arm": one.name}
            for metric in SCORES:
                summary = means(findings, metric, one.name, title)
                row |= {metric: summary.mean, f"{metric} low": summary.low, f"{metric} high": summary.high}
            won = gain(findings, "Qabf", arms[0].name, one.name, title) if one is not arms[0] else None
            row |= {"first gains Qabf": won.gain if won else None, "p": won.p if won else None}
            rows.append(row)
    if out is not None:
        write_csv(out, findings)
    columns = ("degradation", "arm", *SCORES, "first gains Qabf", "p")
    show_table(
        f"{opened.name}, split {split}: scores against the {CLEAN} pair",
        columns,
        [[_shown(row, column) for column in columns] for row in rows],
    )
    if json is not None:
        emit_json({"store": str(store), "split": split, "rows": rows}, json)


def _shown(row: dict[str, object], column: str) -> str:
    value, low = row[column], row.get(f"{column} low")
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value)
    if isinstance(low, float):
        high = row[f"{column} high"]
        digits = 1 if column == "PSNR" else 3
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.4f}"
