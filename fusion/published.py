"""Numbers as printed in papers, to stand beside measured ones, always marked as published."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import resources

from pipeline.errors import ManifestError
from pipeline.yaml_text import read_yaml

TABLES = ("1", "2")  # the comparison tables; 3 to 7 are ablations


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One method of one table on one data set. ``parameters`` in millions; ``extra``: millions of frozen helpers."""

    paper: str
    table: str
    dataset: str
    method: str
    parameters: float | None
    extra: float | None
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper's tables and the metric convention they were likely made under."""

    name: str
    title: str
    convention: str
    rows: tuple[PublishedRow, ...]

    def about(self, dataset: str, tables: tuple[str, ...] = TABLES) -> list[PublishedRow]:
        """The rows on one data set, in the paper's order."""
        return [row for row in self.rows if row.dataset == dataset and row.table in tables]


def load_paper(name: str = "dtpf") -> Paper:
    """Read manifests/papers/<name>.yaml and the CSV it names. Raises ManifestError for a row that is not as expected."""
    folder = resources.files("manifests") / "papers"
    described = read_yaml((folder / f"{name}.yaml").read_text(encoding="utf-8"), name)
    text = (folder / described["tables"]).read_text(encoding="utf-8")
    rows: dict[tuple[str, str, str], PublishedRow] = {}
    for line, entry in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        key = entry["table"], entry["dataset"], entry["method"]
        try:
            value = float(entry["value"])
            row = rows.setdefault(
                key,
                PublishedRow(
                    paper=name,
                    table=key[0],
                    dataset=key[1],
                    method=key[2],
                    parameters=float(entry["params_m"]) if entry["params_m"] else None,
                    extra=float(entry["params_extra_m"]) if entry["params_extra_m"] else None,
                    values={},
                ),
            )
        except ValueError as error:
            raise ManifestError(f"papers/{described['tables']}:{line}: {error}") from error
        if entry["metric"] in row.values:
            raise ManifestError(f"papers/{described['tables']}:{line}: {key} has {entry['metric']} twice")
        row.values[entry["metric"]] = value
    return Paper(name=name, title=described["title"], convention=described["convention"], rows=tuple(rows.values()))


def published_table(
    paper: Paper, dataset: str, tables: tuple[str, ...] = TABLES
) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows for the console; empty rows when the paper says nothing of the data set."""
    rows = paper.about(dataset, tables)
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.values))
    title = f"As published on {dataset}, convention {paper.convention}"
    body = [
        [row.method, *(f"{row.values[metric]:.3f}" if metric in row.values else "–" for metric in metrics), _size(row)]
        for row in rows
    ]
    return title, ["method", *metrics, "params"], body


def _size(row: PublishedRow) -> str:
    if row.parameters is None:
        return "–"
    return f"{row.parameters:g} M" + (f" + {row.extra:g} M" if row.extra else "")
