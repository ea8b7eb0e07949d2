"""Named conventions: how a toolkit makes grey and computes each metric. A score without one is not a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.metrics.catalog import DEFAULT_NAMES, METRICS, Function
from fusion.metrics.grey import rounded_grey
from fusion.metrics.triples import Greying


@dataclass(frozen=True, kw_only=True)
class Convention:
    """``grey`` makes the planes; ``functions`` maps each metric the convention knows to what computes it."""

    name: str
    title: str
    grey: Greying
    functions: Mapping[str, Function]

    @property
    def default_names(self) -> tuple[str, ...]:
        """The default metrics that this convention knows."""
        return tuple(name for name in DEFAULT_NAMES if name in self.functions)


_ALL = (
    Convention(
        name="standard",
        title="8-bit grey by ITU-R 601, rounded; bits; data range 255; sums over sources where the field sums",
        grey=rounded_grey,
        functions={metric.name: metric.function for metric in METRICS.values()},
    ),
)

CONVENTIONS: dict[str, Convention] = {convention.name: convention for convention in _ALL}
