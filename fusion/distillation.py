"""Learning from a teacher (Eq. 13–15): its decoder features through learnable 1×1 adapters, and its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.batch import Batch
from fusion.network import FusionNetwork
from pipeline.errors import WeightsError


class Distillation(nn.Module):
    """The teachers, frozen and outside this module's parameters, and one adapter per decoder tap.

    One teacher for every pair, or one for each store: specialists, from whom one student learns all their kinds of pairs
    (by their outputs; features are taken from a single teacher). The adapters (teacher width to student width) are
    parameters: they belong in the optimiser and the checkpoints.
    """

    def __init__(self, teachers: Sequence[nn.Module], student: nn.Module, *, features: bool) -> None:
        super().__init__()
        # in a list: no submodules, neither saved nor trained
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.adapters = nn.ModuleList()
        if features:
            if len(self.teachers) > 1:
                raise WeightsError("the loss term 'features' needs a single teacher; set loss.features=0")
            teacher = self.teachers[0]
            if not isinstance(teacher, FusionNetwork) or not isinstance(student, FusionNetwork):
                raise WeightsError("the loss term 'features' needs decoder taps in teacher and student")
            self.adapters.extend(
                nn.Conv2d(wide, narrow, 1) for wide, narrow in zip(teacher.tap_widths, student.tap_widths, strict=True)
            )

    def forward(
        self, batch: Batch, fused: Tensor, taps: list[Tensor], factors: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """The terms ``features`` and ``output``, each (N,) times its factor; those without a factor are left out."""
        goal, teacher_taps = self.teach(batch)
        terms = {}
        if "features" in factors:
            adapted = [adapter(tap) for adapter, tap in zip(self.adapters, teacher_taps, strict=True)]
            terms["features"] = factors["features"] * feature_distance(taps, adapted)
        if "output" in factors:
            terms["output"] = factors["output"] * (fused - goal.float()).abs().mean(dim=(1, 2, 3))
        return terms

    @torch.no_grad()
    def teach(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The fused images of the pairs' teachers, and the taps (none for several teachers, or one without a decoder)."""
        if len(self.teachers) == 1:
            return _answer(self.teachers[0], batch)
        fused = torch.empty_like(batch.visible)
        for number, teacher in enumerate(self.teachers):
            own = batch.store == number
            if own.any():
                fused[own] = _answer(teacher, batch.only(own))[0].to(fused.dtype)
        return fused, []


def _answer(teacher: nn.Module, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    if isinstance(teacher, FusionNetwork):
        text = batch.text if teacher.config.text_width else None
        return teacher.forward_features(batch.visible, batch.infrared, text)
    return teacher(batch.visible, batch.infrared, batch.text), []


def feature_distance(taps: list[Tensor], adapted: list[Tensor]) -> Tensor:
    """(N,) mean over the taps of the L1 distance, relative to the mean magnitude of the adapted teacher tap.

    Relative, because taps of different levels differ in scale, and so that adapters that shrink towards zero gain
    nothing; the magnitude itself gets no gradient.
    """
    distances = []
    for tap, goal in zip(taps, adapted, strict=True):
        with torch.autocast(tap.device.type, enabled=False):
            tap, goal = tap.float(), goal.float()
            scale = goal.detach().abs().mean(dim=(1, 2, 3)) + 1e-6
            distances.append((tap - goal).abs().mean(dim=(1, 2, 3)) / scale)
    return torch.stack(distances).mean(dim=0)
