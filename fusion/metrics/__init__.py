"""Fusion metrics: pure functions on tensors, one table of what they are, and named conventions for what scripts do."""

from fusion.metrics.catalog import COLOUR_NAMES, DEFAULT_NAMES, METRICS, Metric
from fusion.metrics.conventions import CONVENTIONS, Convention

__all__ = ["COLOUR_NAMES", "CONVENTIONS", "DEFAULT_NAMES", "METRICS", "Convention", "Metric"]
