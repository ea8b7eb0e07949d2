"""How far two accounts of the same pairs agree, event by event: two priors, or a prior and the drawn truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.store import Store
from pipeline.synth import read_truth

Labels = Mapping[str, frozenset[tuple[str | None, str]]]  # key -> (modality, label) of every event but the default


@dataclass(frozen=True, kw_only=True)
class EventAgreement:
    """One label: in how many images both name it, only the first, only the second."""

    label: str
    both: int
    only_first: int
    only_second: int

    @property
    def precision(self) -> float | None:
        """Share of the first's mentions that the second confirms; None where the first never names it."""
        return self.both / (self.both + self.only_first) if self.both + self.only_first else None

    @property
    def recall(self) -> float | None:
        """Share of the second's mentions that the first has; None where the second never names it."""
        return self.both / (self.both + self.only_second) if self.both + self.only_second else None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Per label, and the pairs in the order of how much they differ: (key, number of differing events)."""

    pairs: int
    events: tuple[EventAgreement, ...]
    differing: tuple[tuple[str, int], ...]


def compare(first: Labels, second: Labels) -> Agreement:
    """Compare over the keys that both have. An event without a modality matches the label in either image."""
    keys = sorted(first.keys() & second.keys())
    both: Counter[str] = Counter()
    only_first: Counter[str] = Counter()
    only_second: Counter[str] = Counter()
    differing = []
    for key in keys:
        mine, theirs = first[key], second[key]
        if any(modality is None for modality, _ in mine | theirs):
            mine, theirs = (frozenset((None, label) for _, label in side) for side in (mine, theirs))
        both.update(label for _, label in mine & theirs)
        only_first.update(label for _, label in mine - theirs)
        only_second.update(label for _, label in theirs - mine)
        if mine != theirs:
            differing.append((key, len(mine ^ theirs)))
    labels = sorted(both | only_first | only_second)
    return Agreement(
        pairs=len(keys),
        events=tuple(
            EventAgreement(label=name, both=both[name], only_first=only_first[name], only_second=only_second[name])
            for name in labels
        ),
        differing=tuple(sorted(differing, key=lambda item: (-item[1], item[0]))),
    )


def prior_labels(store: Store, prior: str, default: str = "clean") -> Labels:
    """The events of a prior's captioned pairs."""
    rows = store.rows(prior, ["key", "status", "events"]).to_pylist()
    return {
        row["key"]: frozenset((event["modality"], event["type"]) for event in row["events"] if event["type"] != default)
        for row in rows
        if row["events"] is not None
    }


def truth_labels(path: Path) -> Labels:
    """The drawn degradations of a synthetic set (its ``truth.jsonl``). Raises InputError naming a wrong line."""
    return {
        key: frozenset((event.modality, event.type) for event in events if event.type != "clean")
        for key, events in read_truth(path).items()
    }


def agreement_rows(agreement: Agreement) -> Sequence[tuple[str, int, int, int, str, str]]:
    """Rows for a table: label, both, only first, only second, precision and recall of the first against the second."""

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    return [
        (event.label, event.both, event.only_first, event.only_second, shown(event.precision), shown(event.recall))
        for event in agreement.events
    ]
