"""What the study of the text found: means, how far one arm leads another, what others keep of a lead.

All severities of a degradation on one pair are one value, their mean: they are alike, and no more evidence than one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.significance import Summary, summarise, summarise_ratio
from pipeline.atomic import write_text
from pipeline.errors import InputError, closest

SCORES = ("Qabf", "SSIM", "PSNR")
CLEAN = "clean"
EVERY = "every degradation"  # the title of all of them together


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A degradation on one image of the pair; ``modality`` is empty for the clean pair."""

    modality: str
    label: str
    severity: str

    @property
    def title(self) -> str:
        """As a table says it."""
        return f"{self.label} on {self.modality}" if self.modality else CLEAN


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The scores of one arm on one case; PSNR is against the same arm's fusion of the clean pair, and None there."""

    arm: str
    key: str
    condition: Condition
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Lead:
    """How much better the arm ``first`` is than the arm ``second`` on the same pairs."""

    first: str
    second: str

    @property
    def title(self) -> str:
        """As a table says it."""
        return f"{self.first} over {self.second}"


def read_leads(values: Sequence[str], arms: Sequence[str]) -> list[Lead]:
    """``FIRST:SECOND`` for each; without any, the first arm over every other. Raises InputError for an unknown arm."""
    leads = []
    for value in values:
        first, found, second = value.partition(":")
        if not (first and found and second) or first == second:
            raise InputError(f"--lead {value!r}: expected FIRST:SECOND, two arms, such as told:untold")
        for name in (first, second):
            if name not in arms:
                raise InputError(
                    f"--lead {value!r}: no arm {name!r}{closest(name, arms)}; there are: {', '.join(arms)}"
                )
        leads.append(Lead(first, second))
    return leads or [Lead(arms[0], other) for other in arms[1:]]


def means(findings: Sequence[Finding], metric: str, arm: str, title: str) -> Summary:
    """Mean over pairs, with a bootstrap interval; ``title``: of a condition (all its severities), or ``EVERY``."""
    return summarise(_by_pair(findings, metric, arm, title))


def gain(findings: Sequence[Finding], metric: str, lead: Lead, title: str) -> Summary:
    """The mean lead over the pairs, with a bootstrap interval of the paired differences."""
    return summarise(_gaps(findings, metric, lead, title))


def kept(findings: Sequence[Finding], metric: str, lead: Lead, arm: str, title: str) -> Summary:
    """The share of a lead that ``arm`` has over the same second arm, with a bootstrap interval; 1: all of it.

    Without a value where it cannot be told that there is a lead: where its own interval holds 0.
    """
    whole = _gaps(findings, metric, lead, title)
    certain = summarise(whole)
    if certain.low is None or certain.high is None or certain.low <= 0 <= certain.high:
        return Summary(mean=None, low=None, high=None, count=certain.count, undefined=certain.undefined)
    return summarise_ratio(_gaps(findings, metric, Lead(arm, lead.second), title), whole)


def _gaps(findings: Sequence[Finding], metric: str, lead: Lead, title: str) -> list[float | None]:
    first, second = (_by_pair(findings, metric, name, title) for name in (lead.first, lead.second))
    return [None if a is None or b is None else a - b for a, b in zip(first, second, strict=True)]


def _by_pair(findings: Sequence[Finding], metric: str, arm: str, title: str) -> list[float | None]:
    scores: dict[str, list[float]] = {}
    for found in findings:
        if found.arm == arm and _is_under(found, title):
            value = found.scores[metric]
            scores.setdefault(found.key, []).extend([] if value is None else [value])
    return [sum(known) / len(known) if known else None for known in scores.values()]


def _is_under(finding: Finding, title: str) -> bool:
    return finding.condition.title == title or (title == EVERY and finding.condition.title != CLEAN)


def write_csv(path: Path, findings: Sequence[Finding]) -> None:
    """One row per arm and case; an empty cell where a score is undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "pair", "modality", "degradation", "severity", *SCORES])
    for found in findings:
        condition = found.condition
        told = (condition.modality, condition.label or CLEAN, condition.severity)
        scores = ("" if found.scores[name] is None else f"{found.scores[name]:.6f}" for name in SCORES)
        writer.writerow([found.arm, found.key, *told, *scores])
    write_text(path, text.getvalue())
