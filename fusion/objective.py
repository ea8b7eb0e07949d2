"""What a training step minimises: a sum of named loss terms with factors, for the teacher and for any student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusion.batch import Batch
from fusion.colour import luma
from fusion.distillation import Distillation
from fusion.edge import EdgeNetwork
from fusion.edge_losses import TERMS as EDGE_TERMS
from fusion.loss_terms import PRIOR_TERM
from fusion.losses import TERMS as FUSION_TERMS
from fusion.losses import fusion_loss
from fusion.network import FusionNetwork
from pipeline.errors import ManifestError

EDGE_PREFIX = "edge."
RANGE_TERM = "edge.range"
ROUGHNESS_TERM = "edge.roughness"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """``fused`` (N, 3, h, w), and every term (N,) with its factor and its pair's weight already in it."""

    fused: Tensor
    terms: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The loss: the mean over the samples of the sum of the terms."""
        return torch.stack(list(self.terms.values())).sum(dim=0).mean()


class Objective(nn.Module):
    """A network with what it is trained for.

    ``reading`` tells the text's embedding (N, D) from what the network makes of the whole image (N, E), for the term
    ``prior``. Like the distillation's adapters it is trained with the network, whose own it is not.
    """

    def __init__(
        self,
        network: nn.Module,
        factors: Mapping[str, float],
        distillation: Distillation | None = None,
        reading: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.factors = dict(factors)
        self.distillation = distillation
        self.reading = reading
        if ROUGHNESS_TERM in factors and not isinstance(network, EdgeNetwork):
            raise ManifestError(f"the loss term '{ROUGHNESS_TERM}' needs a network with a blend weight: edge or nano")
        if "features" in factors and not isinstance(network, FusionNetwork):
            raise ManifestError("the loss term 'features' needs a network with decoder taps; set loss.features=0")
        if PRIOR_TERM in factors and reading is None:
            raise ManifestError(
                f"the loss term '{PRIOR_TERM}' needs a network that makes an embedding of the whole image: edge-prior"
            )

    def forward(self, batch: Batch) -> Outcome:
        """Fuse the batch and take every term with a factor above 0."""
        taps: list[Tensor] = []
        blend: Tensor | None = None
        embedding: Tensor | None = None
        if isinstance(self.network, FusionNetwork):
            text = batch.text if self.network.config.text_width else None
            fused, taps = self.network.forward_features(batch.visible, batch.infrared, text)
        elif isinstance(self.network, EdgeNetwork):
            fused, blend, embedding = self.network.forward_features(batch.visible, batch.infrared, batch.text)
        else:
            fused = self.network(batch.visible, batch.infrared)
        with torch.autocast(fused.device.type, enabled=False):  # differences of nearly equal images need fp32
            fused = fused.float()
            terms = self._fusion_terms(batch, fused)
            if any(name.startswith(EDGE_PREFIX) for name in self.factors):
                terms.update(self._edge_terms(batch, fused, blend))
            if PRIOR_TERM in self.factors and embedding is not None and self.reading is not None:
                missed = (self.reading(embedding.float()) - batch.text).square().sum(dim=1)
                terms[PRIOR_TERM] = self.factors[PRIOR_TERM] * missed
        if self.distillation is not None:
            terms.update(self.distillation(batch, fused, taps, self.factors))
        return Outcome(fused=fused, terms=terms)

    def _fusion_terms(self, batch: Batch, fused: Tensor) -> dict[str, Tensor]:
        wanted = [name for name in FUSION_TERMS if name in self.factors]
        if not wanted:
            return {}
        loss = fusion_loss(batch.target_visible, batch.target_infrared, fused, batch.weights)
        return {name: self.factors[name] * loss.terms[name] for name in wanted}

    def _edge_terms(self, batch: Batch, fused: Tensor, blend: Tensor | None) -> dict[str, Tensor]:
        """The terms of ``edge_losses`` on the luma of the image as it will be saved; ``range`` is what clamping hides."""
        clamped = luma(fused.clamp(0, 1))
        blend = torch.zeros_like(clamped) if blend is None else blend.float()  # only roughness reads it
        planes = luma(batch.target_visible), batch.target_infrared, clamped
        terms = {}
        for name, factor in self.factors.items():
            if name == RANGE_TERM:
                terms[name] = factor * (luma(fused) - clamped).abs().mean(dim=(1, 2, 3))
            elif name.startswith(EDGE_PREFIX):
                terms[name] = factor * EDGE_TERMS[name.removeprefix(EDGE_PREFIX)](*planes, blend)
        return terms


def gradient_shares(objective: Objective, batch: Batch) -> dict[str, float]:
    """Each term's share (0..1) of the summed gradient norms, over the network's parameters, on the batch given.

    A term whose share is near 0 does nothing, whatever its value. Costs one backward pass a term, so give few samples.
    """
    outcome = objective(batch)
    parameters = [parameter for parameter in objective.network.parameters() if parameter.requires_grad]
    norms = {}
    for name, term in outcome.terms.items():
        gradients = torch.autograd.grad(term.mean(), parameters, retain_graph=True, allow_unused=True)
        norms[name] = float(sum(float(g.float().square().sum()) for g in gradients if g is not None)) ** 0.5
    whole = sum(norms.values()) or 1.0
    return {name: norm / whole for name, norm in norms.items()}
