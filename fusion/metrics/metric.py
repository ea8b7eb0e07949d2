"""What is known of a metric, and how a function of grey images becomes one of a triple."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fusion.metrics.planes import Grey
from fusion.metrics.triples import Triple

Function = Callable[[Triple], Tensor]
Kind = Literal["fused", "sources", "naturalness"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. ``function`` maps a Triple to (N,), NaN where undefined.

    ``kind``: "fused" looks at the fused image alone, "sources" compares it with its sources, "naturalness" judges the
    fused image alone against statistics of good photographs.
    """

    name: str
    title: str
    function: Function
    better: Literal["higher", "lower"] | None
    range: tuple[float, float]
    unit: str
    kind: Kind


def of_fused(function: Callable[[Grey], Tensor]) -> Function:
    """``function`` of the grey fused image."""
    return lambda triple: function(triple.fused)


def of_all(function: Callable[[Grey, Grey, Grey], Tensor]) -> Function:
    """``function`` of the grey first source, second source and fused image."""
    return lambda triple: function(triple.first, triple.second, triple.fused)
