"""Fusion metrics: pure functions on tensors, one table of what they are, and named conventions for what scripts do."""

from fusion.metrics.catalog import DEFAULT_NAMES, METRICS, Metric
from fusion.metrics.conventions import CONVENTIONS, Convention

__all__ = ["CONVENTIONS", "DEFAULT_NAMES", "METRICS", "Convention", "Metric"]
