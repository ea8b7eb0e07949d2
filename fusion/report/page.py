"""The page: sections from results and pictures, put into one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from fusion.report.gallery import Shot, encode, worst_cases
from fusion.report.pareto import pareto_plot
from fusion.report.provenance import provenance_section
from fusion.report.section import Section
from fusion.report.words import headlines, sentences
from fusion.results import BenchResult, DatasetResult
from fusion.tables import RANK_NOTE, costs, headings, margin, number
from pipeline.atomic import write_text
from pipeline.console import progress
from pipeline.words import counted


def write_page(
    path: Path,
    result: BenchResult,
    shots: Sequence[Shot],
    *,
    title: str = "Benchmark",
    first: Sequence[Section] = (),
    last: Sequence[Section] = (),
) -> None:
    """Write the page of ``result`` with ``shots`` in its gallery; ``first`` and ``last`` go around the usual sections."""
    titles = {(one.name, name): card.title for one in result.datasets for name, card in one.methods.items()}
    with progress() as bar:
        task = bar.add_task("page", total=len(shots))
        gallery = encode(
            shots, lambda dataset, name: titles.get((dataset, name), name), advance=lambda: bar.advance(task)
        )

    def suffix(dataset: DatasetResult) -> str:
        return f": {dataset.name}" if len(result.datasets) > 1 else ""

    sections = [*first]
    for dataset in result.datasets:
        sections.append(_scores_section(dataset, suffix(dataset)))
    if gallery:
        sections.append(_gallery_section())
    for dataset in result.datasets:
        further = _worst_section(dataset, gallery, suffix(dataset)), _versus_section(dataset, suffix(dataset))
        sections += [section for section in further if section]
    sections += [*last, provenance_section(result)]
    text = Template(_part("page.html")).substitute(
        title=escape(title),
        subtitle=escape(_subtitle(result)),
        style=_part("page.css"),
        script=_part("page.js"),
        navigation="".join(f'<a href="#{part.anchor}">{escape(part.label or part.title)}</a>' for part in sections),
        body="\n".join(
            f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2>{part.html}</section>' for part in sections
        ),
        data=script_json(_script_data(result, gallery)),
        footer="One file, no outside parts: it can be mailed and opened anywhere. Sort a table by its headings; "
        "in the gallery the arrow keys move the slider, n and p change the pair.",
    )
    write_text(path, text)


def _part(name: str) -> str:
    return (resources.files("fusion.report") / name).read_text(encoding="utf-8")


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: no ``</script>`` and no ``<!--`` can end or open anything."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _subtitle(result: BenchResult) -> str:
    return " · ".join(
        f"{dataset.title}, {dataset.split}: {counted(len(dataset.keys), 'pair')}, convention {dataset.convention}"
        for dataset in result.datasets
    )


def _script_data(result: BenchResult, gallery: list[dict[str, Any]]) -> dict[str, Any]:
    shown = {(item["dataset"], item["key"]) for item in gallery}
    lead = result.datasets[0].lead
    return {
        "gallery": gallery,
        "start": ["visible", lead],
        "headlines": {dataset.name: headlines(dataset) for dataset in result.datasets},
        "titles": {
            dataset.name: {name: card.title for name, card in dataset.methods.items()} for dataset in result.datasets
        },
        "scores": {
            dataset.name: {
                key: {
                    name: [dataset.values[name][metric][index] for metric in headlines(dataset)]
                    for name in dataset.methods
                }
                for index, key in enumerate(dataset.keys)
                if (dataset.name, key) in shown
            }
            for dataset in result.datasets
        },
        "versus": {dataset.name: _versus_data(dataset) for dataset in result.datasets},
    }


def _versus_data(dataset: DatasetResult) -> dict[str, Any]:
    pairs = {
        f"{first}|{second}": [
            [found.wins, found.losses, found.ties, found.gain, found.p]
            for found in (comparisons[metric] for metric in dataset.metrics)
        ]
        for (first, second), comparisons in dataset.comparisons.items()
    }
    return {"metrics": list(dataset.metrics), "pairs": pairs}


def _scores_section(dataset: DatasetResult, suffix: str) -> Section:
    said = "".join(f"<p>{escape(text)}</p>" for text in sentences(dataset))
    plots = {metric: pareto_plot(dataset, metric) for metric in headlines(dataset)}
    html = f'<div class="said">{said}</div><div class="card">{score_table(dataset)}<p class="note">{escape(RANK_NOTE)} '
    html += "Small figures: half of the 95 % bootstrap interval of the mean.</p></div>"
    if any(plots.values()):
        options = "".join(f"<option>{escape(metric)}</option>" for metric in plots)
        figures = "".join(f'<div data-metric="{escape(metric)}">{svg}</div>' for metric, svg in plots.items())
        html += (
            f'<h3>Quality against time</h3><div class="card"><div class="controls"><label>Metric '
            f'<select data-plots="plots-{dataset.name}">{options}</select></label></div>'
            f'<div id="plots-{dataset.name}">{figures}</div>'
            '<p class="note">The dashed line joins the methods that no other beats in both.</p></div>'
        )
    return Section(anchor=f"scores-{dataset.name}", title=f"Scores{suffix}", html=html)


def score_table(dataset: DatasetResult) -> str:
    """The sortable table of means."""
    costly = any(card.cost for card in dataset.methods.values())
    head = '<th scope="col" data-kind="text"><button type="button">method</button></th>'
    for metric, label in zip(dataset.metrics, headings(dataset), strict=True):
        head += f'<th scope="col" data-better="{dataset.better[metric] or ""}"><button type="button">{escape(label)}</button></th>'
    if costly:
        head += "".join(
            f'<th scope="col" data-better="lower"><button type="button">{label}</button></th>'
            for label in ("parameters", "GFLOP", "ms", "MiB")
        )
    rows = ""
    for name, card in dataset.methods.items():
        marked = " ".join((card.kind, "lead" if name == dataset.lead else ""))
        gap = f" <small>{counted(dataset.missing[name], 'image')} missing</small>" if name in dataset.missing else ""
        cells = f'<th scope="row" data-value="{escape(card.title)}">{escape(card.title)}{gap}</th>'
        cells += "".join(_score_cell(dataset, name, metric) for metric in dataset.metrics)
        if costly:
            cost = card.cost
            raw = (cost.parameters, cost.gflops, cost.latency_ms, cost.peak_mib) if cost else (None,) * 4
            cells += "".join(
                f'<td data-value="{"" if value is None else value}">{text}</td>'
                for value, text in zip(raw, costs(cost), strict=True)
            )
        rows += f'<tr class="{marked.strip()}">{cells}</tr>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Scores on {escape(dataset.title)}">'
        f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _score_cell(dataset: DatasetResult, method: str, metric: str) -> str:
    summary = dataset.summaries[method][metric]
    rank = {1: "best", 2: "second"}.get(dataset.ranks[metric].get(method, 0), "")
    if summary.mean is None:
        return '<td data-value="" title="undefined on every image">–</td>'
    if summary.low is None or summary.high is None:
        spread, tip = "", "one image alone: no interval"
    else:
        spread = f"<small>{margin(summary)}</small>"
        tip = f"95 % interval {summary.low:.4f} to {summary.high:.4f}, {summary.count} images"
    return (
        f'<td class="{rank}" data-value="{summary.mean}" title="{tip}"><span>{number(summary.mean)}</span>{spread}</td>'
    )


def _gallery_section() -> Section:
    html = """
<div class="card">
  <div class="strip" role="group" aria-label="Choose a pair"></div>
  <div class="controls">
    <button class="button" type="button" id="previous">← previous</button>
    <button class="button" type="button" id="next">next →</button>
    <span class="quiet" id="position" aria-live="polite"></span>
    <span class="gap"></span>
    <label>left <select id="left"></select></label>
    <button class="button" type="button" id="swap" aria-label="Swap left and right">⇄</button>
    <label>right <select id="right"></select></label>
  </div>
  <div class="controls" role="group" aria-label="What to show">
    <button class="button" type="button" data-mode="wipe">wipe</button>
    <button class="button" type="button" data-mode="difference">difference</button>
    <button class="button" type="button" data-mode="edges">lost and invented edges</button>
    <span class="note" data-explains="wipe">drag, or use the arrow keys, to uncover either picture</span>
    <span class="note" data-explains="difference">red: the left is brighter; blue: the right is (three times enlarged)</span>
    <span class="note" data-explains="edges">red: an edge stronger than in both sources; blue: the stronger source's edge
    is lost</span>
  </div>
  <div class="viewer" id="viewer">
    <div class="pictures">
      <div class="stage"><img alt=""><canvas hidden></canvas><img class="over" alt=""><span class="handle"></span>
        <span class="name left"></span><span class="name right"></span>
        <input type="range" min="0" max="100" step="1" value="50" aria-label="How much of the left picture is shown"></div>
      <div class="controls" style="margin-top:18px"><span class="quiet">Where the methods differ most</span>
        <span id="crop-buttons" class="controls" style="margin:0"></span></div>
      <div class="crops"></div>
    </div>
    <div><div class="about"></div><div class="scroll"><table><thead></thead><tbody></tbody></table></div></div>
  </div>
  <noscript><p>The gallery needs JavaScript.</p></noscript>
</div>"""
    return Section(anchor="gallery", title="Pictures", html=html)


def _worst_section(dataset: DatasetResult, gallery: list[dict[str, Any]], suffix: str) -> Section | None:
    shown = {item["key"] for item in gallery if item["dataset"] == dataset.name}
    lead = dataset.lead
    columns = []
    for metric in headlines(dataset):
        keys = [key for key in worst_cases(dataset, lead, metric) if key in shown]
        cards = "".join(
            f'<button type="button" data-goto="{escape(key)}" data-set="{escape(dataset.name)}" data-method="{escape(lead)}">'
            f'<img alt=""><span class="note">{escape(key)}: {metric} '
            f"{number(dataset.values[lead][metric][dataset.keys.index(key)])}</span></button>"
            for key in keys
        )
        if cards:
            columns.append(f"<div><h3>{escape(metric)}</h3>{cards}</div>")
    if not columns:
        return None
    title = dataset.methods[lead].title
    html = f'<p class="quiet">The pairs on which {escape(title)} does worst; each opens in the gallery.</p>'
    html += f'<div class="card worst">{"".join(columns)}</div>'
    return Section(anchor=f"worst-{dataset.name}", title=f"Worst cases{suffix}", html=html)


def _versus_section(dataset: DatasetResult, suffix: str) -> Section | None:
    if len(dataset.methods) < 2:
        return None
    lead = dataset.lead
    rival = (
        "maximum"
        if "maximum" in dataset.methods and lead != "maximum"
        else next(name for name in dataset.methods if name != lead)
    )

    def choice(chosen: str) -> str:
        return "".join(
            f'<option value="{escape(name)}"{" selected" if name == chosen else ""}>{escape(card.title)}</option>'
            for name, card in dataset.methods.items()
        )

    html = f"""
<div class="card" data-versus="{escape(dataset.name)}">
  <div class="controls"><label>method <select>{choice(lead)}</select></label>
  <label>against <select>{choice(rival)}</select></label></div>
  <div class="scroll"><table><thead><tr><th scope="col">metric</th><th scope="col">won / lost</th><th scope="col">won</th>
  <th scope="col">lost</th><th scope="col">ties</th><th scope="col">mean gain</th><th scope="col">p</th></tr></thead>
  <tbody></tbody></table></div>
  <p class="note">Pair by pair; a gain is positive where the method is better, whichever way the metric points. p: two-sided
  paired sign-flip permutation test, not corrected for the number of comparisons.</p>
</div>"""
    return Section(anchor=f"versus-{dataset.name}", title=f"One against one{suffix}", html=html)
