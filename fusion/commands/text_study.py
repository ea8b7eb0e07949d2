"""``fusioncli text-study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from fusion.augment import Bytes
    from fusion.significance import Summary
    from fusion.text_study import Arm, Case

DIGITS = {"PSNR": 1}


def text_study(
    store: Annotated[str, typer.Option(help="Store whose held-out pairs are degraded; folder or URL.")],
    arm: Annotated[
        list[str],
        typer.Option(help="NAME=WEIGHTS@TEXT, TEXT being true, shuffled or none; once for each network and text."),
    ],
    lead: Annotated[
        list[str] | None,
        typer.Option(
            help="FIRST:SECOND, how far one arm is ahead of another; may be repeated. Of the first such lead, what each "
            "other arm keeps is told too. Default: the first arm over every other."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to degrade.")] = "test",
    prior: Annotated[str, typer.Option(help="Prior the texts come from; its embedder has to be hashing.")] = "text",
    label: Annotated[list[str] | None, typer.Option(help="Only this degradation; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only N evenly spaced pairs.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file of every score. Killed, the same command goes on after the last whole pair."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Pictures of each degradation at its strongest, three a page: NAME-STORE-1.png and so on."),
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the table as JSON to this file (- is standard output).")
    ] = None,
) -> None:
    """Measure what the text is worth: fuse drawn degradations with the true text, another one, and none.

    Scores are against the clean pair, PSNR against the same arm's fusion of it; means over pairs and severities. All
    intervals are of 95 %, by bootstrap over the pairs.

    Example: fusioncli text-study --store stores/roadscene --arm "told=runs/guided@true" --arm "misled=runs/guided@shuffled"
    """
    from fusion.report.sheet import check_sheet, write_sheet
    from fusion.text_findings import EVERY, SCORES, gain, kept, means, read_leads, write_csv
    from fusion.text_memory import TextMemory, beside, study_digest
    from fusion.text_sheet import Album
    from fusion.text_study import cases, conditions, study
    from pipeline.console import check_file, check_json, emit_json, note, progress
    from pipeline.store import Store
    from pipeline.words import counted

    check_json(json, out)
    if out is not None:
        check_file("--out", out, ("arm,",))
    arms = _read_arms(arm)
    leads = read_leads(lead or (), [one.name for one in arms])
    opened = Store.open(store)
    wanted = conditions(opened.header.modalities, label or ())
    if sheet is not None:
        check_sheet(sheet)
    every = cases(opened, wanted, prior, split, limit)
    album = Album(every if sheet is not None else ())
    memory = TextMemory(beside(out), study_digest(opened, prior, arms, every))
    left = [case for case in every if case.row.key not in memory.found or album.wants(case)]
    if memory.found:
        note(f"{memory.path}: goes on after {counted(len(memory.found), 'pair')}")
    with progress() as bar:
        task = bar.add_task("degrading and fusing", total=len(left))

        def look(case: Case, seen: tuple[Tensor, Tensor], fused: dict[str, Bytes]) -> None:
            album.look(case, seen, fused)
            bar.advance(task)

        findings = study(
            opened, arms, every, prior=prior, known=memory.found, look=look, keep=memory.add, wanted=album.wants
        )
    if sheet is not None:
        write_sheet(sheet, opened.header.dataset, album.rows)
    titles = [*dict.fromkeys(condition.title for condition in wanted), EVERY]
    names = [one.name for one in arms]
    rows = [
        {"degradation": title, "arm": name} | _cells({m: means(findings, m, name, title) for m in SCORES})
        for title in titles
        for name in names
    ]
    ahead = [
        {"degradation": title, "lead": one.title} | _cells({m: gain(findings, m, one, title) for m in SCORES})
        for title in titles
        for one in leads
    ]
    shares = [
        {"arm": name} | _cells({m: kept(findings, m, leads[0], name, EVERY) for m in SCORES})
        for name in names
        if lead and name not in (leads[0].first, leads[0].second)
    ]
    if out is not None:
        write_csv(out, findings)
        memory.forget()
    if json != "-":
        _show(f"{opened.name}, split {split}: scores against the clean pair", rows)
        if ahead:
            _show("How far one is ahead of another on the same pairs", ahead)
        if shares:
            _show(f"What is kept of {leads[0].title}, on {EVERY} (1: all of it)", shares)
    if json is not None:
        emit_json({"store": str(store), "split": split, "rows": rows, "leads": ahead, "kept": shares}, json)


def _read_arms(values: Sequence[str]) -> list[Arm]:
    from fusion.methods import NetworkMethod
    from fusion.text_study import Arm
    from pipeline.errors import InputError

    arms = []
    for value in values:
        name, found, rest = value.partition("=")
        weights, marked, text = rest.rpartition("@")
        if not (name and found and marked and weights):
            raise InputError(f"--arm {value!r}: expected NAME=WEIGHTS@TEXT, such as told=runs/guided@true")
        arms.append(Arm(name=name, method=NetworkMethod(name, weights), text=text))
    if len({one.name for one in arms}) < len(arms):
        raise InputError("two arms have the same name")
    return arms


def _cells(summaries: dict[str, Summary]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for metric, summary in summaries.items():
        cells |= {metric: summary.mean, f"{metric} low": summary.low, f"{metric} high": summary.high}
    return cells


def _show(title: str, rows: Sequence[dict[str, object]]) -> None:
    from pipeline.console import show_table

    columns = [name for name in rows[0] if not name.endswith((" low", " high"))]
    show_table(title, columns, [[_shown(row, column) for column in columns] for row in rows])


def _shown(row: dict[str, object], column: str) -> str:
    value, low, high = row[column], row.get(f"{column} low"), row.get(f"{column} high")
    if isinstance(value, float) and isinstance(low, float):
        digits = DIGITS.get(column, 3)
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return "–" if value is None else str(value)
