"""What is minimised: the fusion loss, the distillation terms on top of it (Eq. 13-15), or the edge networks' terms."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.edge import EdgeNetwork, to_luma
from fusion.edge_losses import EdgeWeights, edge_loss
from fusion.losses import TERMS, fusion_loss
from fusion.network import FusionNetwork
from fusion.reader import Batch
from fusion.recipe import Recipe

CLAMP_WEIGHT = 0.5  # what the edge objective pays for values outside 0..1, which its terms do not see


class Objective(nn.Module):
    """A network together with its loss: one module, so that the learnable adapters train with it.

    The teacher is frozen and no part of the state. Terms come back weighted: (N,) each.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.network, self.recipe = network, recipe
        self._teacher = [teacher.eval().requires_grad_(False)] if teacher is not None else []
        self.adapters = nn.ModuleList()
        if recipe.feature and isinstance(teacher, FusionNetwork) and isinstance(network, FusionNetwork):
            pairs = zip(teacher.tap_widths, network.tap_widths, strict=True)
            self.adapters = nn.ModuleList(nn.Conv2d(wide, narrow, 1) for wide, narrow in pairs)

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen teacher, or None."""
        return self._teacher[0] if self._teacher else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss, (N,) each; their sum is what is minimised."""
        if isinstance(self.network, EdgeNetwork):
            fused, blend = self.network.forward_features(batch.visible, batch.infrared)
            taps: list[Tensor] = []
        else:
            network = cast(FusionNetwork, self.network)
            text = batch.text if network.text is not None else None
            fused, taps = network.forward_features(batch.visible, batch.infrared, text)
            blend = torch.zeros_like(batch.infrared)
        terms = (
            self._fusion_terms(batch, fused)
            if self.recipe.objective == "fusion"
            else self._edge_terms(batch, fused, blend)
        )
        if self.teacher is not None and (self.recipe.feature or self.recipe.output):
            terms |= self._distillation_terms(batch, fused, taps)
        return terms

    def fuse(self, batch: Batch, teacher: bool = False) -> Tensor:
        """The fused images alone, (N, 3, H, W); by the teacher when asked."""
        network = self.teacher if teacher and self.teacher is not None else self.network
        text = batch.text if getattr(network, "text", None) is not None else None
        fused: Tensor = network(batch.visible, batch.infrared, text)
        return fused

    def _fusion_terms(self, batch: Batch, fused: Tensor) -> dict[str, Tensor]:
        weights = batch.weights
        if self.recipe.loss_weights:
            row = [self.recipe.loss_weights.get(term, 0.0) for term in TERMS]
            weights = torch.tensor([row] * len(weights), dtype=weights.dtype, device=weights.device)
        return fusion_loss(batch.visible, batch.infrared, fused, weights).terms

    def _edge_terms(self, batch: Batch, fused: Tensor, blend: Tensor) -> dict[str, Tensor]:
        weights = EdgeWeights(**{**dict.fromkeys(EdgeWeights.__dataclass_fields__, 0.0), **self.recipe.edge})
        clamped = to_luma(fused.clamp(0, 1))
        _, terms = edge_loss(to_luma(batch.visible), batch.infrared, clamped, blend, weights)
        weighted = {name: getattr(weights, name) * value for name, value in terms.items()}
        weighted["range"] = CLAMP_WEIGHT * (to_luma(fused) - clamped).abs().mean(dim=(1, 2, 3))
        return weighted

    def _distillation_terms(self, batch: Batch, fused: Tensor, taps: list[Tensor]) -> dict[str, Tensor]:
        teacher = self.teacher
        terms = {}
        with torch.no_grad():
            if isinstance(teacher, FusionNetwork):
                text = batch.text if teacher.text is not None else None
                target, teacher_taps = teacher.forward_features(batch.visible, batch.infrared, text)
            else:
                target, teacher_taps = cast(nn.Module, teacher)(batch.visible, batch.infrared), []
        if self.adapters:
            distances = [
                _relative_distance(tap, adapter(wide))
                for tap, wide, adapter in zip(taps, teacher_taps, self.adapters, strict=True)
            ]
            terms["feature"] = self.recipe.feature * torch.stack(distances).mean(dim=0)
        if self.recipe.output:
            terms["output"] = self.recipe.output * (fused - target.clamp(0, 1)).abs().mean(dim=(1, 2, 3))
        return terms


def _relative_distance(student: Tensor, adapted: Tensor) -> Tensor:
    """Mean squared distance of two maps after each pixel's features are brought to unit length and √C: 0 to 4.

    Dividing by the number of channels on top, as a plain mean over a normalised map does, would leave a term too
    small to act.
    """
    distance = functional.normalize(student, dim=1) - functional.normalize(adapted, dim=1)
    return distance.square().sum(dim=1).mean(dim=(1, 2))
