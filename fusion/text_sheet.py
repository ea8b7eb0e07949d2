"""Pictures of a text study: each degradation at its strongest, as the networks saw it and as every arm fused it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusion.augment import Bytes
from fusion.methods import as_pixels
from fusion.report.sheet import Row
from fusion.text_study import Case
from pipeline.events import SEVERITIES


class Album:
    """Keeps the rows of a contact sheet while a study runs: one pair for each degradation, another one each time."""

    def __init__(self, every: Sequence[Case]) -> None:
        keys = list(dict.fromkeys(case.row.key for case in every))
        strongest = dict.fromkeys(case.condition for case in every if case.condition.severity == SEVERITIES[-1])
        self.wanted = {(keys[number % len(keys)], condition) for number, condition in enumerate(strongest)}
        self.rows: list[Row] = []

    def wants(self, case: Case) -> bool:
        """Whether the sheet shows this case."""
        return (case.row.key, case.condition) in self.wanted

    def look(self, case: Case, seen: tuple[Tensor, Tensor], fused: dict[str, Bytes]) -> None:
        """Keep the case where it is one of those wanted; seen: (1, 3, H, W) and (1, 1, H, W), 0..1."""
        if not self.wants(case):
            return
        visible, infrared = as_pixels(seen[0]), as_pixels(seen[1])
        title = f"{case.row.key}, {case.condition.severity} {case.condition.title}"
        pictures = {"visible, as seen": visible, "infrared, as seen": infrared, **fused}
        self.rows.append(Row(name=title, visible=visible, infrared=infrared, pictures=pictures))
