"""What the numbers say, in sentences: what the trivial methods reach, and how the lead method stands against them."""

from __future__ import annotations

from fusion.results import SOURCES, DatasetResult, spoken
from fusion.significance import Comparison
from fusion.tables import gaps, number
from pipeline.words import counted

HEADLINES = ("VIF", "Qabf", "SSIM", "EN")
FLATTERED = ("EN", "SD", "SF", "AG")  # rise with noise and with brightening alone
SURE = 0.05


def headlines(result: DatasetResult) -> list[str]:
    """The metrics that plots and sentences are about."""
    return [metric for metric in HEADLINES if metric in result.metrics] or list(result.metrics[:3])


def sentences(result: DatasetResult) -> list[str]:
    """The paragraphs above a table, plain text."""
    said = [text for text in (_yardstick(result), _standing(result), _untouched(result), _flattery(result)) if text]
    return said + gaps(result)


def _reached(result: DatasetResult, method: str) -> str:
    parts = [f"{metric} {number(result.summaries[method][metric].mean)}" for metric in headlines(result)]
    return ", ".join(parts)


def _yardstick(result: DatasetResult) -> str:
    pairs = f"On {counted(len(result.keys), 'pair')} of {result.title} ({result.split})"
    trivial = [
        f"{words} reaches {_reached(result, name)}"
        for name, words in (
            ("maximum", "the plain pixel maximum, which has no weights at all,"),
            ("visible", f"the first image ({spoken(result.modalities[0])}) left untouched"),
            ("mean", "the plain mean"),
        )
        if name in result.methods
    ]
    return f"{pairs}, {'; '.join(trivial)}. A method is worth its cost only above that." if trivial else ""


def _standing(result: DatasetResult) -> str:
    lead = result.lead
    if lead == "maximum" or "maximum" not in result.methods:
        return ""
    parts = [_against(metric, result.comparison(lead, "maximum", metric)) for metric in headlines(result)]
    said = "; ".join(part for part in parts if part)
    return f"{result.methods[lead].title} against that maximum: {said}." if said else ""


def _against(metric: str, found: Comparison) -> str:
    if found.gain is None or found.p is None:
        return ""
    total = found.wins + found.losses + found.ties
    if found.p >= SURE:
        return f"{metric} no clear difference (better on {found.wins} of {counted(total, 'pair')}, p = {found.p:.2f})"
    way = "better" if found.gain > 0 else "worse"
    return f"{metric} {way} by {number(abs(found.gain))} (better on {found.wins} of {counted(total, 'pair')}, {p_text(found.p)})"


def p_text(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _untouched(result: DatasetResult) -> str:
    beaten = []
    for place, name in enumerate(SOURCES):
        for metric in headlines(result):
            if name not in result.methods or metric in FLATTERED:
                continue
            alone = result.summaries[name][metric].mean
            best = [method for method, rank in result.ranks[metric].items() if rank == 1]
            if alone is None or not best:
                continue
            reached = result.summaries[best[0]][metric].mean
            sign = -1 if result.better[metric] == "lower" else 1
            if reached is not None and sign * (alone - reached) > 0:
                beaten.append(
                    f"the {spoken(result.modalities[place])} image alone has a better {metric} than any fusion here"
                )
    return f"Mind that {' and '.join(beaten)}: that metric does not reward fusing." if beaten else ""


def _flattery(result: DatasetResult) -> str:
    there = [metric for metric in FLATTERED if metric in result.metrics]
    if not there:
        return ""
    verb = "rises" if len(there) == 1 else "rise"
    return (
        f"{', '.join(there)} {verb} with noise and with brightening alone; a high value is no proof of a good picture."
    )
