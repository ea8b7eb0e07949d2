"""Fusion metrics: pure functions on tensors, one table of what they are, and named conventions for what scripts do."""

from fusion.metrics.catalog import COLOUR_NAMES, DEFAULT_NAMES, METRICS
from fusion.metrics.conventions import CONVENTIONS, Convention
from fusion.metrics.metric import Metric

__all__ = ["COLOUR_NAMES", "CONVENTIONS", "DEFAULT_NAMES", "METRICS", "Convention", "Metric"]
