"""The names a recipe may give factors to: terms on the fused image, of the edge objective, and towards a teacher or a text."""

from __future__ import annotations

from fusion.edge_losses import TERMS as EDGE_TERMS
from fusion.losses import TERMS as FUSION_TERMS

DISTILLATION_TERMS = ("features", "output")
PRIOR_TERM = "prior"
LOSS_TERMS = (*FUSION_TERMS, *DISTILLATION_TERMS, PRIOR_TERM, *(f"edge.{name}" for name in EDGE_TERMS), "edge.range")

__all__ = ["DISTILLATION_TERMS", "FUSION_TERMS", "LOSS_TERMS", "PRIOR_TERM"]
