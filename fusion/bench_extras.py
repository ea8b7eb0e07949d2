"""What a benchmark can show beside its scores: published rows and the ceiling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from fusion.benchmark import BenchSet
from fusion.ceiling import covered, push
from fusion.metrics.vif import SMALLEST_SIDE
from fusion.published import TABLES, load_paper, published_table
from fusion.report.section import Section
from fusion.results import DatasetResult, ExtraTable
from fusion.tables import number
from pipeline.console import progress
from pipeline.errors import InputError
from pipeline.pairs import evenly_spaced, pair_size, read_pair

TEXT = ' data-kind="text"'


def published(datasets: Sequence[DatasetResult], numbers: tuple[str, ...] = TABLES) -> list[ExtraTable]:
    """The rows of the paper's tables ``numbers`` on these data sets."""
    paper = load_paper()
    tables = []
    for dataset in datasets:
        title, header, rows = published_table(paper, dataset.name, numbers)
        if rows:
            about = (
                "Printed in the paper, not measured here. Its test split, its metric scripts and its resolution may differ "
                f"from this run's ({dataset.split}, convention {dataset.convention}); compare only what agrees in all three."
            )
            tables.append(
                ExtraTable(
                    anchor=f"published-{dataset.name}",
                    title=title,
                    label="Published",
                    about=f"{paper.title}. {about}",
                    header=tuple(header),
                    rows=tuple(map(tuple, rows)),
                )
            )
    return tables


def check_ceiling(convention: str, metrics: Sequence[str], sets: Sequence[BenchSet], count: int) -> None:
    """Raises InputError where the ceiling has nothing to be compared with, or a pair is too small for VIF."""
    if convention != "standard" or not {"VIF", "Qabf"} <= set(metrics):
        raise InputError("--ceiling needs VIF and Qabf among the metrics, in the convention standard")
    for pair in (one.pairs[index] for one in sets for index in evenly_spaced(len(one.pairs), count)):
        height, width = pair_size(pair)
        if min(height, width) < SMALLEST_SIDE:
            raise InputError(
                f"--ceiling: {pair.first} is {width} x {height} pixels; VIF needs {SMALLEST_SIDE} x {SMALLEST_SIDE} at least"
            )


def ceilings(bench: BenchSet, result: DatasetResult, count: int) -> ExtraTable:
    """VIF + Qabf of every method on ``count`` pairs, beside what optimised pixels reach on the same pairs."""
    chosen = evenly_spaced(len(bench.pairs), count)
    count = len(chosen)
    reached, start = [], []
    with progress() as bar:
        for index in bar.track(chosen, description="ceiling"):
            visible, infrared = read_pair(bench.pairs[index], bench.manifest.channels)
            found = push(visible.eight_bit(), infrared.eight_bit(grey=True))
            reached.append(found.reached)
            start.append(found.start)
    top, floor = float(np.mean(reached)), float(np.mean(start))
    rows, gaps = [], ""
    for name, card in result.methods.items():
        sums = [(result.values[name]["VIF"][index], result.values[name]["Qabf"][index]) for index in chosen]
        known = [a + b for a, b in sums if a is not None and b is not None]
        mean = float(np.mean(known)) if len(known) == count else None
        if len(known) < count:
            gaps += f" {card.title}: {count - len(known)} of {count} images are missing or undefined, so it has no row of figures."
        share = covered(mean, floor, top) if mean is not None else None
        rows.append([card.title, number(mean), "–" if share is None else f"{share:.0%}"])
    rows.append(["optimised pixels", number(top), "100%"])
    about = (
        f"{count} evenly spaced pair{'s' * (count != 1)}. The last row optimises the pixels themselves, from the maximum, for this very sum: a "
        "local search, so the true ceiling may lie higher. The share counts from the pixel maximum."
    )
    title = f"How much of the reachable VIF + Qabf is reached: {result.name}"
    return ExtraTable(
        anchor=f"ceiling-{result.name}",
        title=title,
        label="Ceiling",
        about=about + gaps,
        header=("method", "VIF + Qabf", "share of the way"),
        rows=tuple(map(tuple, rows)),
    )


def section(table: ExtraTable) -> Section:
    """The table for the page, sortable."""
    head = "".join(
        f'<th scope="col"{"" if place else TEXT}><button type="button">{escape(name)}</button></th>'
        for place, name in enumerate(table.header)
    )
    body = "".join(
        f'<tr><th scope="row" data-value="{escape(row[0])}">{escape(row[0])}</th>'
        + "".join(f'<td data-value="{_value(cell)}">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    html = (
        f'<p class="quiet">{escape(table.about)}</p><div class="card"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.title)}"><table class="sortable"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div></div>"
    )
    return Section(anchor=table.anchor, title=table.title, html=html, label=table.label)


def _value(cell: str) -> str:
    """The number a cell begins with, for sorting; nothing where it begins with none."""
    found = re.match(r"-?\d+(\.\d+)?", cell)
    return found.group() if found else ""
