"""Published rows: every number of the file arrives, under the right method."""

from __future__ import annotations

import csv
from pathlib import Path

from fusion.published import load_paper, published_table

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_number_of_the_file_is_there_once() -> None:
    with (REPOSITORY / "manifests" / "papers" / "dtpf.csv").open() as file:
        entries = list(csv.DictReader(file))
    rows = {(row.table, row.dataset, row.method): row for row in load_paper().rows}
    assert sum(len(row.values) for row in rows.values()) == len(entries)
    for entry in entries:
        assert rows[entry["table"], entry["dataset"], entry["method"]].values[entry["metric"]] == float(entry["value"])


def test_the_papers_student_on_msrs() -> None:
    student = next(row for row in load_paper().about("msrs") if row.method == "DTPF student")
    assert student.values == {"EN": 6.763, "VIF": 1.075, "Qabf": 0.734}
    assert student.parameters == 4.1


def test_the_table_says_it_is_published_and_under_which_convention() -> None:
    title, header, rows = published_table(load_paper(), "harvard-ct-mri")
    assert "published" in title
    assert "convention" in title
    assert header[0] == "method"
    assert len(rows) == 10
    assert published_table(load_paper(), "tno")[2] == []
