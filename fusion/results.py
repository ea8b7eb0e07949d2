"""What a benchmark found: per image, per method, per data set, with what each method is and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from fusion.significance import Comparison, Summary, compare, compare_many, summarise

Kind = Literal["source", "baseline", "network", "folder", "published"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one 640 x 480 pair costs. ``gflops`` and ``peak_mib`` are None where they were not measured."""

    parameters: int
    gflops: float | None
    latency_ms: float
    latency_p95_ms: float
    warmup: int
    runs: int
    threads: int
    device: str
    peak_mib: float | None
    engine: str = "torch"
    dtype: str = "float32"
    size: tuple[int, int] = (480, 640)


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """What a method is. ``digest`` is the SHA-256 of its weights; ``text`` says where its text condition came from."""

    name: str
    title: str
    kind: Kind
    source: str
    digest: str | None = None
    text: str | None = None
    cost: Cost | None = None

    @property
    def fuses(self) -> bool:
        """False for a source shown untouched, which takes no part in the ranking."""
        return self.kind != "source"


SOURCES = ("visible", "infrared")  # the baselines that leave the first and the second image untouched
ABBREVIATIONS = ("ct", "mri", "pet", "spect")


def spoken(modality: str) -> str:
    """A modality as prose and tables name it: "infrared", but "MRI"."""
    return modality.upper() if modality in ABBREVIATIONS else modality


@dataclass(frozen=True, kw_only=True)
class DatasetResult:
    """All scores on one data set.

    ``values[method][metric]`` lists one value per key (None: undefined there, or no image); ``missing`` counts images a
    folder lacked. ``better[metric]`` is "higher", "lower" or None.
    """

    name: str
    title: str
    task: str
    split: str
    modalities: tuple[str, str]
    convention: str
    digest: str
    keys: tuple[str, ...]
    metrics: tuple[str, ...]
    better: dict[str, str | None]
    methods: dict[str, MethodCard]
    values: dict[str, dict[str, list[float | None]]]
    missing: dict[str, int] = field(default_factory=dict)

    @cached_property
    def summaries(self) -> dict[str, dict[str, Summary]]:
        """Mean and interval by method and metric."""
        return {
            method: {metric: summarise(self.values[method][metric]) for metric in self.metrics}
            for method in self.methods
        }

    @cached_property
    def ranks(self) -> dict[str, dict[str, int]]:
        """``ranks[metric][method]`` is 1 for the best mean and 2 for the second, among methods that fuse.

        Equal means share a rank; methods that miss images are not ranked, because their mean is over other images.
        """
        ranks: dict[str, dict[str, int]] = {}
        for metric in self.metrics:
            means = {
                name: summary.mean
                for name, card in self.methods.items()
                if card.fuses
                and not self.missing.get(name)
                and (summary := self.summaries[name][metric]).mean is not None
            }
            best = sorted({mean for mean in means.values() if mean is not None}, reverse=self.better[metric] != "lower")
            places = {mean: place for place, mean in enumerate(best[:2], start=1)}
            ranks[metric] = {name: places[mean] for name, mean in means.items() if mean in places}
        return ranks

    def comparison(self, first: str, second: str, metric: str) -> Comparison:
        """Wins, losses and p-value of one method against another."""
        return compare(self.values[first][metric], self.values[second][metric], better=self.better[metric])

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], dict[str, Comparison]]:
        """Every pair of methods, in the table's order, by metric: the same numbers as ``comparison``, in one go."""
        names = list(self.methods)
        pairs = [(first, second) for index, first in enumerate(names) for second in names[index + 1 :]]
        found: dict[tuple[str, str], dict[str, Comparison]] = {pair: {} for pair in pairs}
        for metric in self.metrics:
            lists = [(self.values[first][metric], self.values[second][metric]) for first, second in pairs]
            for pair, comparison in zip(pairs, compare_many(lists, better=self.better[metric]), strict=True):
                found[pair][metric] = comparison
        return found

    @property
    def lead(self) -> str:
        """The method the page talks about: the student or "ours" if there is one, else the first network or folder that is
        no teacher, else the maximum."""
        ours = [name for name, card in self.methods.items() if card.kind in ("network", "folder")]
        for wanted in ("student", "ours"):
            if wanted in ours:
                return wanted
        if ours:
            return next((name for name in ours if not name.startswith("teacher")), ours[0])
        return "maximum" if "maximum" in self.methods else list(self.methods)[-1]


@dataclass(frozen=True, kw_only=True)
class ExtraTable:
    """A table beside the scores, all text: published rows, a ceiling, detection, segmentation. ``label``: a short title."""

    anchor: str
    title: str
    label: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """A whole run: every data set, the machine it ran on and the command that asked for it."""

    datasets: tuple[DatasetResult, ...]
    machine: dict[str, str]
    command: str
    tables: tuple[ExtraTable, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The whole result as plain values."""
        return {
            "command": self.command,
            "machine": self.machine,
            "datasets": [_dataset_json(dataset) for dataset in self.datasets],
            "tables": [
                {"title": table.title, "about": table.about, "header": table.header, "rows": table.rows}
                for table in self.tables
            ],
        }


def _dataset_json(dataset: DatasetResult) -> dict[str, Any]:
    def means(method: str) -> dict[str, Any]:
        return {
            metric: {**asdict(dataset.summaries[method][metric]), "rank": dataset.ranks[metric].get(method)}
            for metric in dataset.metrics
        }

    return {
        "name": dataset.name,
        "split": dataset.split,
        "convention": dataset.convention,
        "manifest": dataset.digest,
        "n": len(dataset.keys),
        "better": dataset.better,
        "methods": [
            {**asdict(card), "missing": dataset.missing.get(name, 0), "metrics": means(name)}
            for name, card in dataset.methods.items()
        ],
        "comparisons": [
            {"first": dataset.lead, "second": rival, "metric": metric, **asdict(found)}
            for rival in dataset.methods
            if rival != dataset.lead
            for metric in dataset.metrics
            for found in (dataset.comparison(dataset.lead, rival, metric),)
        ],
        "images": image_rows(dataset),
    }


def image_rows(dataset: DatasetResult) -> list[dict[str, Any]]:
    """One row per image and method."""
    return [
        {
            "dataset": dataset.name,
            "name": key,
            "method": method,
            "convention": dataset.convention,
            **{metric: dataset.values[method][metric][index] for metric in dataset.metrics},
        }
        for index, key in enumerate(dataset.keys)
        for method in dataset.methods
    ]


def only(result: DatasetResult, names: Sequence[str]) -> DatasetResult:
    """The same result with these methods alone."""
    return replace(
        result,
        methods={name: result.methods[name] for name in names},
        values={name: result.values[name] for name in names},
        missing={name: count for name, count in result.missing.items() if name in names},
    )
