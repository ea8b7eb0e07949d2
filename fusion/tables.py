"""A benchmark's tables: for the console, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from decimal import Decimal

from fusion.results import Cost, DatasetResult, image_rows
from fusion.significance import Summary
from pipeline.words import counted

ARROWS = {"higher": "↑", "lower": "↓", None: ""}
DECIMALS = 3
SMALL = 0.01  # below it three decimals are less than two digits
TINY = 1e-5  # below it a value is shown as 0
LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "–": "--"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
RANK_NOTE = "Best and second best are marked among the methods that fuse; a source shown alone is not ranked."


def headings(result: DatasetResult) -> list[str]:
    """Metric names with their arrows."""
    return [f"{metric} {ARROWS[result.better[metric]]}".strip() for metric in result.metrics]


def number(value: float | None) -> str:
    """Three decimals, of a small value two digits; a dash for what is undefined."""
    if value is None:
        return "–"
    return f"{Decimal(f'{value:.2g}'):f}" if TINY <= abs(value) < SMALL else f"{value:.{DECIMALS}f}"


def margin(summary: Summary) -> str:
    """Half the confidence interval behind a ±: three decimals, or two digits where it or the mean is small; else nothing."""
    if summary.mean is None or summary.low is None or summary.high is None:
        return ""
    half = (summary.high - summary.low) / 2
    small = abs(summary.mean) < SMALL or half < 10**-DECIMALS / 2
    return f"± {number(half)}" if small else f"± {half:.{DECIMALS}f}"


def costs(cost: Cost | None) -> tuple[str, str, str, str]:
    """Parameters, GFLOP, milliseconds and MiB as text."""
    if cost is None:
        return "–", "–", "–", "–"
    return (
        count(cost.parameters),
        "–" if cost.gflops is None else f"{cost.gflops:.3g}" if cost.gflops < 1000 else f"{cost.gflops:.0f}",
        milliseconds(cost.latency_ms),
        "–" if cost.peak_mib is None else f"{cost.peak_mib:.0f}",
    )


def milliseconds(value: float) -> str:
    """Whole ones from 100 on, else one decimal."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def count(parameters: int) -> str:
    """40.3 M, 24 k, 0."""
    if parameters >= 1e6:
        return f"{parameters / 1e6:.2f} M"
    return f"{parameters / 1e3:.1f} k" if parameters >= 1e4 else f"{parameters:,}"


def caption(result: DatasetResult) -> str:
    """Data set, split, number of pairs and convention in one line."""
    return f"{result.title} ({result.split}), {counted(len(result.keys), 'pair')}, convention {result.convention}"


def console_table(result: DatasetResult) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows; * is the best and + the second best mean. Costs only where some were measured."""
    marks = {1: "*", 2: "+"}
    measured = any(card.cost for card in result.methods.values())
    rows = []
    for name, card in result.methods.items():
        cells = [
            number(result.summaries[name][metric].mean) + marks.get(result.ranks[metric].get(name, 0), "")
            for metric in result.metrics
        ]
        gap = [f"{result.missing[name]} missing"] if name in result.missing else [""] if result.missing else []
        rows.append([card.title, *cells, *(costs(card.cost)[:3] if measured else ()), *gap])
    names = ("params", "GFLOP", "ms") if measured else ()
    header = ["method", *headings(result), *names, *([""] if result.missing else [])]
    return caption(result) + "   (* best, + second of those that fuse)", header, rows


def markdown_table(result: DatasetResult) -> str:
    """A table for a paper or an issue: mean ± half the 95 % interval, best bold, second in italics."""
    marks = {1: "**", 2: "_"}
    lines = [f"### {caption(result)}", "", "| method | " + " | ".join(headings(result)) + " | params | ms |"]
    lines.append("|---|" + "---:|" * (len(result.metrics) + 2))
    for name, card in result.methods.items():
        cells = []
        for metric in result.metrics:
            summary = result.summaries[name][metric]
            mark = marks.get(result.ranks[metric].get(name, 0), "")
            cells.append(f"{mark}{number(summary.mean)}{mark} {margin(summary)}".rstrip())
        parameters, _, latency, _ = costs(card.cost)
        lines.append(f"| {markdown_text(card.title)} | " + " | ".join(cells) + f" | {parameters} | {latency} |")
    return "\n".join([*lines, "", "± is half of the 95 % bootstrap interval. " + RANK_NOTE, *gaps(result), ""])


def latex_table(result: DatasetResult) -> str:
    """The same for LaTeX with booktabs: best bold, second underlined."""
    marks = {1: r"\textbf{%s}", 2: r"\underline{%s}"}
    arrows = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", None: ""}
    head = " & ".join(latex_text(metric) + arrows[result.better[metric]] for metric in result.metrics)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(caption(result))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(result.metrics) + 2)}}}",
        r"\toprule",
        rf"Method & {head} & Params & ms \\",
        r"\midrule",
    ]
    for name, card in result.methods.items():
        cells = [
            marks.get(result.ranks[metric].get(name, 0), "%s")
            % number(result.summaries[name][metric].mean).replace("–", "--")
            for metric in result.metrics
        ]
        parameters, _, latency, _ = (text.replace("–", "--") for text in costs(card.cost))
        lines.append(rf"{latex_text(card.title)} & {' & '.join(cells)} & {parameters} & {latency} \\")
    notes = [rf"\par\footnotesize {latex_text(sentence)}" for sentence in gaps(result)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}", ""])


def csv_table(results: tuple[DatasetResult, ...]) -> str:
    """One row per image and method; an undefined value is an empty cell."""
    metrics = list(dict.fromkeys(metric for result in results for metric in result.metrics))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["dataset", "name", "method", "convention", *metrics], lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerows(image_rows(result))
    return text.getvalue()


def gaps(result: DatasetResult) -> list[str]:
    """Sentences about missing images and undefined values."""
    sentences = [
        f"{name}: {missing} of {len(result.keys)} fused images are missing; its means are over the others and not ranked."
        for name, missing in result.missing.items()
    ]
    for metric in result.metrics:
        lacking = {
            name: result.summaries[name][metric].undefined - result.missing.get(name, 0) for name in result.methods
        }
        affected = [result.methods[name].title for name, gap in lacking.items() if gap]
        if affected:
            whose = "" if len(affected) == len(result.methods) else f" of {', '.join(affected)}"
            sentences.append(
                f"{metric} is undefined on up to {max(lacking.values())} of {len(result.keys)} images{whose}, which are left "
                "out of its mean."
            )
    return sentences


def latex_text(text: str) -> str:
    """Escape what LaTeX would read as a command, or show as another letter."""
    return text.translate(LATEX)


def markdown_text(text: str) -> str:
    """Escape what would break a Markdown table or be read as a mark."""
    return re.sub(r"([\\|*_`<\[])", r"\\\1", text)
