"""The page's parts: plots, crops, error maps, words, and that it is one safe file."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fusion.bench_run import write_tables
from fusion.report.gallery import Shot, busiest_crops, choose, edge_errors, worst_cases
from fusion.report.page import score_table, script_json, write_page
from fusion.report.pareto import LINE, Dot, frontier, nice_ticks, pareto_plot, spread
from fusion.report.provenance import provenance_section
from fusion.report.words import sentences
from fusion.results import BenchResult, Cost, DatasetResult, MethodCard
from fusion.tables import latex_table, markdown_table, number

KEYS = tuple(f"pair-{index}" for index in range(8))


def cost(latency: float) -> Cost:
    return Cost(
        parameters=90_224, gflops=2.9, latency_ms=latency, latency_p95_ms=latency, runs=3, threads=1, device="cpu",
        peak_mib=None, warmup=1,
    )  # fmt: skip


@pytest.fixture
def result() -> DatasetResult:
    """Three methods and an untouched source on eight images, with a name that wants to break out of the page."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.6, size=8)
    kinds = {"visible": "source", "maximum": "baseline", "</script><b>": "folder", "student": "network"}
    levels = {"visible": 0.4, "maximum": 0.0, "</script><b>": -0.1, "student": 0.05}
    return DatasetResult(
        name="set",
        title="A set & more",
        task="ivf",
        split="test",
        modalities=("visible", "infrared"),
        convention="standard",
        digest="abc",
        keys=KEYS,
        metrics=("VIF", "Nabf"),
        better={"VIF": "higher", "Nabf": "lower"},
        methods={
            name: MethodCard(name=name, title=name, kind=kind, source="x", cost=cost(10.0 + index * 30))
            for index, (name, kind) in enumerate(kinds.items())
        },
        values={
            name: {"VIF": (base + level).tolist(), "Nabf": (0.5 - base / 2 - level).tolist()}
            for name, level in levels.items()
        },
    )


def test_ranks_follow_the_metrics_direction(result: DatasetResult) -> None:
    assert result.ranks["VIF"] == {"student": 1, "maximum": 2}
    assert result.ranks["Nabf"] == {"student": 1, "maximum": 2}


def test_worst_cases_follow_the_metrics_direction(result: DatasetResult) -> None:
    values = result.values["student"]
    assert worst_cases(result, "student", "VIF", 1) == [KEYS[int(np.argmin(values["VIF"]))]]
    assert worst_cases(result, "student", "Nabf", 1) == [KEYS[int(np.argmax(values["Nabf"]))]]
    assert len(choose(result, most=5)) == 5


def test_the_words_name_the_yardsticks_and_the_untouched_source(result: DatasetResult) -> None:
    said = " ".join(sentences(result))
    best = result.summaries["maximum"]["VIF"].mean
    assert f"no weights at all, reaches VIF {best:.3f}" in said
    assert "student against that maximum: VIF better by 0.050 (better on 8 of 8 pairs" in said
    assert "the visible image alone has a better VIF than any fusion here" in said


def test_one_against_one_is_the_same_alone_and_in_bulk(result: DatasetResult) -> None:
    for (first, second), found in result.comparisons.items():
        assert found["VIF"] == result.comparison(first, second, "VIF")


def test_the_frontier_keeps_what_nothing_beats() -> None:
    def dot(title: str, latency: float, quality: float) -> Dot:
        return Dot(title=title, kind="network", latency=latency, quality=quality)

    dots = [dot("slow good", 100, 0.9), dot("fast", 1, 0.5), dot("beaten", 50, 0.4), dot("middle", 20, 0.7)]
    assert [one.title for one in frontier(dots)] == ["fast", "middle", "slow good"]
    assert [one.title for one in frontier(dots, lower_is_better=True)] == ["fast", "beaten"]


def test_plots_are_well_formed_and_labels_apart(result: DatasetResult) -> None:
    root = ElementTree.fromstring(pareto_plot(result, "VIF"))
    circles = [element for element in root.iter() if element.tag == "circle"]
    assert len(circles) == 3  # the untouched source is not a trade-off
    heights = spread([50.0, 51.0, 52.0, 200.0])
    assert all(b - a >= LINE - 1e-9 for a, b in pairwise(heights))
    ticks = nice_ticks(0.43, 0.71)
    assert ticks[0] <= 0.43
    assert ticks[-1] >= 0.71
    assert 4 <= len(ticks) <= 8


def test_crops_lie_where_the_pictures_differ_and_apart() -> None:
    first = np.full((120, 160), 100, dtype=np.uint8)
    second = first.copy()
    second[20:40, 30:50] = 200
    second[80:100, 110:130] = 160
    crops = busiest_crops([first, second], count=2)
    (x, y, side), (u, v, _) = crops
    assert x <= 40 <= x + side
    assert y <= 30 <= y + side
    assert u <= 120 <= u + side
    assert v <= 90 <= v + side
    assert all(x >= 0 and x + side <= 160 and y >= 0 and y + side <= 120 for x, y, side in crops)
    assert busiest_crops([first]) == ()


def test_error_maps_are_red_for_invented_and_blue_for_lost_edges() -> None:
    flat = np.full((40, 40), 100, dtype=np.uint8)
    edge = flat.copy()
    edge[:, 20:] = 180
    invented, lost = edge_errors(flat, flat, edge), edge_errors(edge, flat, flat)
    assert invented[20, 20, 0] > 200 > invented[20, 20, 2]
    assert lost[20, 20, 2] > 200 > lost[20, 20, 0]
    assert edge_errors(edge, flat, edge).max() == 0


class Checker(HTMLParser):
    """Collects links to the outside and ids, and counts script elements."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("src", "href") and value and not value.startswith(("data:", "#")):
                self.outside.append(value)


def test_the_page_is_one_safe_file(result: DatasetResult, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pictures = {
        name: rng.integers(0, 256, size=(64, 80, 3), dtype=np.uint8)
        for name in ("visible", "infrared", "maximum", "</script><b>", "student")
    }
    shot = Shot(dataset="set", key=KEYS[0], why=("a <reason>",), pictures=pictures)
    run = BenchResult(datasets=(result,), machine={"cores": "2"}, command="fusioncli bench")
    write_page(tmp_path / "index.html", run, [shot], title="A <title>")
    text = (tmp_path / "index.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.outside == []
    assert checker.scripts == 2
    assert len(checker.ids) == len(set(checker.ids))
    assert "<b>" not in text.replace("&lt;b&gt;", "")
    assert not re.search(r"https?://", text)


def test_data_in_a_script_cannot_end_it() -> None:
    assert "</script" not in script_json({"name": "</script><!--"})
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(float("nan"))


def test_tables_mark_and_escape(result: DatasetResult) -> None:
    markdown, latex = markdown_table(result), latex_table(result)
    best = result.summaries["student"]["VIF"].mean
    assert f"**{best:.3f}**" in markdown
    assert rf"\textbf{{{best:.3f}}}" in latex
    assert r"A set \& more" in latex
    assert latex.count(r"\\") == 1 + len(result.methods)


def test_a_folder_whose_name_is_in_no_encoding_loses_no_results(result: DatasetResult, tmp_path: Path) -> None:
    """As an archive from a system with another encoding may leave one."""
    folder = os.fsdecode(b"/data/f\xfcsion")
    methods = {name: replace(card, source=folder) for name, card in result.methods.items()}
    run = BenchResult(datasets=(replace(result, methods=methods),), machine={}, command=f"fusioncli bench {folder}")
    write_tables(run, tmp_path)
    write_page(tmp_path / "index.html", run, [])
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["datasets"][0]["methods"][0]["source"] == folder
    assert r"/data/f\udcfcsion" in (tmp_path / "index.html").read_text()


def test_latex_and_markdown_show_any_name_as_it_is(result: DatasetResult) -> None:
    name = r"a^2 {b} $c$ ~\d <e>"
    methods = {"student": replace(result.methods["student"], title=name)}
    named = replace(result, methods=methods, values={"student": result.values["student"]})
    written = r"a\textasciicircum{}2 \{b\} \$c\$ \textasciitilde{}\textbackslash{}d \textless{}e\textgreater{}"
    assert f"\n{written} & " in latex_table(named)
    assert r"| a^2 {b} $c$ ~\\d \<e> | " in markdown_table(named)


def test_the_worst_of_a_metric_where_less_is_better_are_the_highest(result: DatasetResult, tmp_path: Path) -> None:
    few = replace(result, metrics=("Nabf",))
    reasons = {reason for why in choose(few).values() for reason in why}
    assert "among the highest Nabf of student" in reasons
    assert not any("lowest" in reason for reason in reasons)
    assert "among the lowest VIF of student" in {reason for why in choose(result).values() for reason in why}
    pictures = {name: np.zeros((8, 8), dtype=np.uint8) for name in ("visible", "infrared", "student")}
    shots = [Shot(dataset="set", key=key, why=(), pictures=pictures) for key in KEYS]
    write_page(tmp_path / "index.html", BenchResult(datasets=(few,), machine={}, command=""), shots)
    assert "scores lowest" not in (tmp_path / "index.html").read_text()


def test_the_page_tells_every_text_of_a_teacher(result: DatasetResult) -> None:
    """One network, two data sets, a store of texts for each."""
    card = replace(result.methods["student"], digest="abc")
    found = tuple(
        replace(result, name=name, methods={**result.methods, "student": replace(card, text=f"stores/{name}")})
        for name in ("one", "other")
    )
    html = provenance_section(BenchResult(datasets=found, machine={}, command="")).html
    assert "text: stores/one" in html and "text: stores/other" in html
    assert html.count("<th scope='row'>maximum</th>") == 1


def test_nothing_is_said_of_a_comparison_without_values(result: DatasetResult) -> None:
    values = {name: {"VIF": [None] * 8, "Nabf": [0.5] * 8} for name in result.methods}
    assert not any("against that maximum" in text for text in sentences(replace(result, values=values)))


def test_a_value_under_a_thousandth_is_not_shown_as_zero(result: DatasetResult) -> None:
    """A share of spurious edges of 0.0004 is one, and half of 0.0008."""
    shares = {"visible": 0.0, "maximum": 0.0008, "</script><b>": 0.0042, "student": 0.0004}
    values = {name: {"VIF": [share] * 7 + [2 * share], "Nabf": [0.5] * 8} for name, share in shares.items()}
    small = replace(result, values=values, better={"VIF": "lower", "Nabf": "lower"})
    mean = small.summaries["student"]["VIF"].mean
    assert mean == pytest.approx(0.00045)
    for table in (markdown_table(small), latex_table(small), score_table(small)):
        assert "0.00045" in table and "0.0009" in table and "0.0047" in table
    assert "± 0.000 " not in markdown_table(small).split("| student")[1].split("|")[1]


def test_one_image_has_a_score_and_no_interval(result: DatasetResult) -> None:
    first = {name: {metric: found[:1] for metric, found in values.items()} for name, values in result.values.items()}
    single = replace(result, keys=KEYS[:1], values=first)
    value = f"{result.values['student']['VIF'][0]:.3f}"
    assert f"**{value}** |" in markdown_table(single)
    assert "±" not in markdown_table(single).split("± is")[0]
    cell = f'title="one image alone: no interval"><span>{value}</span></td>'
    assert cell in score_table(single) and ", 1 pair, " in markdown_table(single)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (1.23456, "1.235"),
        (0.01, "0.010"),
        (0.0099, "0.0099"),
        (0.00042, "0.00042"),
        (-0.0042, "-0.0042"),
        (3.2e-5, "0.000032"),
        (3.7e-6, "0.000"),
        (0.0, "0.000"),
    ],
)
def test_numbers_are_written_out_and_hardly_anything_is_nothing(value: float | None, shown: str) -> None:
    assert number(value) == shown
