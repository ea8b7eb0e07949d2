"""What values a recipe may have; everything out of range is refused before a training begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fusion.catalog import NETWORKS, network_entry
from fusion.feature_fusion import FUSIONS
from fusion.loss_terms import FUSION_TERMS, LOSS_TERMS
from fusion.network import NetworkConfig
from pipeline.errors import ManifestError, closest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusion.recipe import Recipe

AT_LEAST = {
    0: (
        "workers",
        "cache_mb",
        "warmup",
        "weight_decay",
        "clip",
        "final_lr",
        "validation_share",
        "validation_pairs",
        "pictures",
    ),
    1: (
        "steps",
        "batch_size",
        "accumulation",
        "validate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "shares_every",
    ),
    16: ("validation_crop",),
}
BETWEEN = {
    "ema": (0, 0.99999),
    "seed": (0, 2**63 - 1),
    "degrade": (0, 1),
    "zoom": (0, 3),
    "darken_visible": (0, 1),
    "darken_infrared": (0, 1),
}
SMALLEST_CROP, LARGEST_CROP = 48, 4096  # pixels; every window of the losses fits into the smallest
CHOICES = {"precision": ("fp32", "bf16", "fp16"), "reader": ("indexed", "stream")}


def check_recipe(recipe: Recipe) -> None:
    """Raises ManifestError, naming the recipe, its stage and the key."""
    where = f"recipe {recipe.name}, stage {recipe.stage}"
    _check_numbers(recipe, where)
    for key, known in CHOICES.items():
        if getattr(recipe, key) not in known:
            value = getattr(recipe, key)
            raise ManifestError(f"{where}: no {key} {value!r}{closest(value, known)}; expected {', '.join(known)}")
    _check_fusion(recipe, where)
    for term in recipe.loss:
        if term not in LOSS_TERMS:
            raise ManifestError(f"{where}: no loss term {term!r}{closest(term, LOSS_TERMS)}")
    _check_factors(recipe.loss, f"{where}: loss")
    if not any(recipe.factors().values()):
        raise ManifestError(f"{where}: every term of the loss has factor 0; nothing is left to train on")
    _check_weights(recipe.weights, where)


def _check_numbers(recipe: Recipe, where: str) -> None:
    for least, keys in AT_LEAST.items():
        for key in keys:
            if not getattr(recipe, key) >= least:
                raise ManifestError(f"{where}: {key} is {getattr(recipe, key)}, expected at least {least}")
    if not SMALLEST_CROP <= recipe.crop <= LARGEST_CROP or recipe.crop % 8:
        raise ManifestError(
            f"{where}: crop is {recipe.crop}, expected a multiple of 8 from {SMALLEST_CROP} to {LARGEST_CROP} pixels"
        )
    if recipe.batch_size % recipe.accumulation:
        raise ManifestError(
            f"{where}: batch_size {recipe.batch_size} cannot be cut into accumulation {recipe.accumulation} equal parts"
        )
    for key, (low, high) in BETWEEN.items():
        if not low <= getattr(recipe, key) <= high:
            raise ManifestError(f"{where}: {key} is {getattr(recipe, key)}, expected {low} to {high}")
    if not 0 < recipe.lr < 1:
        raise ManifestError(f"{where}: lr is {recipe.lr}, expected between 0 and 1")
    if not recipe.explode > 1:
        raise ManifestError(f"{where}: explode is {recipe.explode}, expected more than 1, in running means of the loss")


def _check_fusion(recipe: Recipe, where: str) -> None:
    if not recipe.fusion:
        return
    if recipe.fusion not in FUSIONS:
        raise ManifestError(
            f"{where}: no fusion module {recipe.fusion!r}{closest(recipe.fusion, FUSIONS)}; expected {', '.join(FUSIONS)}"
        )
    if recipe.network in NETWORKS and not isinstance(network_entry(recipe.network).config, NetworkConfig):
        raise ManifestError(
            f"{where}: fusion is {recipe.fusion!r}, but the network {recipe.network} has no such modules"
        )


def _check_weights(weights: str | dict[str, float], where: str) -> None:
    if isinstance(weights, str):
        if weights not in ("prior", "default"):
            raise ManifestError(f"{where}: weights {weights!r}; expected prior, default, or a number for each term")
        return
    for key in weights:
        if key not in FUSION_TERMS:
            raise ManifestError(f"{where}: weights: unknown term {key!r}{closest(key, FUSION_TERMS)}")
    _check_factors(weights, f"{where}: weights")


def _check_factors(factors: Mapping[str, float], where: str) -> None:
    for term, factor in factors.items():
        if not (math.isfinite(factor) and factor >= 0):
            raise ManifestError(f"{where}: {term} is {factor}, expected a number of at least 0")
