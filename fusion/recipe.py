"""A recipe: everything that decides a training, from YAML over a frozen dataclass to ``--set key=value``.

A recipe file holds both stages: keys at the top count for both, those under ``teacher:`` and ``student:`` for one. It
may build on another with ``base:``. The run saves the resolved recipe, so resuming needs no file.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from fusion.loss_terms import DISTILLATION_TERMS, FUSION_TERMS, LOSS_TERMS
from fusion.recipe_limits import check_recipe
from pipeline.errors import ManifestError, closest
from pipeline.yaml_text import read_yaml

STAGES = ("teacher", "student")
COMMANDS = {"teacher": "train-teacher", "student": "distill"}
# Keys that change speed, logging or memory but no number of the result: a resumed run may set them anew.
OPERATIONAL = frozenset(
    {"workers", "cache_mb", "log_every", "shares_every", "checkpoint_every", "keep_checkpoints", "pictures", "trackers"}
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One stage of a recipe, resolved. Defaults are the paper's where it states them (facts: AdamW, cosine, 128²)."""

    name: str
    stage: str
    title: str = ""

    network: str = "teacher"  # a name of `fusioncli nets`
    fusion: str = ""  # another feature fusion module than the network's own (Table 5)
    text: bool = True  # whether the network is conditioned on the text embedding; students never are
    prior: str = "text"  # the prior of the store that texts and loss weights come from

    steps: int = 1000  # optimiser steps
    batch_size: int = 4  # pairs per step, over all processes and accumulated parts
    accumulation: int = 1  # parts a batch is cut into: less memory, same result
    crop: int = 128  # pixels, square
    seed: int = 0
    lr: float = 1e-4
    final_lr: float = 1e-6  # where the cosine ends, one cosine over the whole run
    warmup: int = 0  # steps of linear rise
    weight_decay: float = 1e-4
    clip: float = 1.0  # largest gradient norm; 0 is off
    ema: float = 0.999  # decay of the averaged weights that are saved; 0 saves the plain ones
    precision: str = "fp32"
    compile: bool = False

    weights: str | dict[str, float] = "prior"  # "prior" (per pair), "default" (the task's), or five numbers
    loss: dict[str, float] = field(default_factory=dict)  # factor per named term

    flips: bool = True
    turns: bool = False  # quarter turns as well
    zoom: float = 0.0  # crops are taken up to this share larger or smaller and resized
    darken_visible: float = 0.0  # probability of a visible image made darker, in input and target
    darken_infrared: float = 0.0  # the same for the infrared image
    degrade: float = 0.0  # probability of a drawn degradation: seen by the network, not by the loss

    reader: str = "indexed"
    shuffle: bool = True  # false: in the order of the plan, for comparing readers
    shares: tuple[float, ...] = ()  # how often each store is drawn from; empty: by its size
    workers: int = 2  # reading threads; 0 reads in the training thread
    cache_mb: int = 2048  # decoded pictures kept in memory

    validation_share: float = 0.05  # of the train split, held out by pair identity
    validation_pairs: int = 16  # at most
    validation_crop: int = 256  # pixels, centre crop
    validate_every: int = 1000
    pictures: int = 4  # rows of a picture strip
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    shares_every: int = 100  # how often the gradient share of each loss term is measured
    explode: float = 100.0  # stop when a loss is this many times its running mean
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_recipe(self)

    def factors(self) -> dict[str, float]:
        """Factor of every loss term that counts: the five fusion terms are 1 unless said otherwise, others 0."""
        named = {name: self.loss.get(name, 1.0 if name in FUSION_TERMS else 0.0) for name in LOSS_TERMS}
        if self.stage == "teacher":
            named = {name: value for name, value in named.items() if name not in DISTILLATION_TERMS}
        return {name: value for name, value in named.items() if value}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, all keys."""
        return {**asdict(self), "shares": list(self.shares), "trackers": list(self.trackers)}


def recipe_names() -> list[str]:
    """The recipes that come with this project."""
    folder = files("manifests") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, stage: str, settings: Sequence[str] = (), base: str | None = None) -> Recipe:
    """Read a recipe by name or from a ``.yaml`` path, for one stage, with ``key=value`` settings on top.

    ``base``: build on this recipe instead of the one that the file names. Raises ManifestError: no such
    recipe, a stage that it does not describe, unknown key (with the closest match), a value of the wrong kind.
    """
    values = _resolved(name, stage, (), base)
    (other,) = set(STAGES) - {stage}
    if _described(name, base) == {other}:
        raise ManifestError(
            f"recipe {name} describes no {stage}; use it with `fusioncli {COMMANDS[other]}`, or choose another recipe"
        )
    for setting in settings:
        key, value = parse_setting(setting)
        values = _merged(values, _nested(key, value))
    return build_recipe({"name": Path(name).stem, **values, "stage": stage}, f"recipe {name}")


def build_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A Recipe of plain values. Raises ManifestError for unknown keys and wrong kinds of values."""
    kinds = typing.get_type_hints(Recipe)
    checked = {}
    for key, value in values.items():
        if key not in kinds:
            raise ManifestError(f"{where}: unknown key {key!r}{closest(key, kinds)}")
        checked[key] = _coerced(value, kinds[key], f"{where}: {key}")
    return Recipe(**checked)


def change_recipe(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """``recipe`` for a resumed run: only keys that do not change the result may be set anew."""
    values = recipe.as_dict()
    for setting in settings:
        key, value = parse_setting(setting)
        if key in values and key not in OPERATIONAL:
            raise ManifestError(
                f"--set {key}: a resumed run keeps its recipe, so that it ends where it would have ended; start a new "
                f"run for another {key} (free to change: {', '.join(sorted(OPERATIONAL))})"
            )
        values[key] = value
    return build_recipe(values, f"recipe {recipe.name}")


def parse_setting(setting: str) -> tuple[str, Any]:
    """``key=value`` with the value read as YAML. Raises ManifestError."""
    key, separator, text = setting.partition("=")
    if not separator or not key.strip():
        raise ManifestError(f"--set {setting!r}: expected key=value")
    return key.strip(), read_yaml(text, f"--set {setting!r}")


def _resolved(name: str, stage: str, seen: tuple[str, ...], base: str | None = None) -> dict[str, Any]:
    if name in seen:
        raise ManifestError(f"recipes build on each other in a circle: {' -> '.join([*seen, name])}")
    raw = _read(name)
    parent = raw.pop("base", None)
    parent = base or parent
    own = {key: raw.pop(key, None) or {} for key in STAGES}
    values = _resolved(str(parent), stage, (*seen, name)) if parent else {}
    return _merged(_merged(values, raw), own[stage])


def _described(name: str, base: str | None = None) -> set[str]:
    """The stages that a recipe, or one that it builds on, has keys of their own for."""
    raw = _read(name)
    parent = base or raw.get("base")
    return raw.keys() & STAGES | (_described(str(parent)) if parent else set())


def _read(name: str) -> dict[str, Any]:
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ManifestError(f"{name}: no such recipe file")
        content = path.read_bytes()
    elif name in recipe_names():
        content = (files("manifests") / "recipes" / f"{name}.yaml").read_bytes()
    else:
        known = recipe_names()
        raise ManifestError(f"no recipe {name!r}{closest(name, known)}; there are: {', '.join(known)}")
    raw = read_yaml(content, f"recipe {name}")
    if not isinstance(raw, dict):
        raise ManifestError(f"recipe {name}: expected a mapping of keys, found {type(raw).__name__}")
    return raw


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes`` over ``values``; the factors of the loss are merged one by one."""
    merged = {**values, **changes}
    old, new = values.get("loss"), changes.get("loss")
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        merged["loss"] = {**old, **new}
    return merged


def _nested(key: str, value: Any) -> dict[str, Any]:
    return {"loss": {key.removeprefix("loss."): value}} if key.startswith("loss.") else {key: value}


def _coerced(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType):
        kind = dict[str, float] if isinstance(value, Mapping) else str
    origin = typing.get_origin(kind)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _coerced(entry, float, f"{where}.{key}") for key, entry in value.items()}
    if origin is tuple:
        entries = value if isinstance(value, list | tuple) else [value] if value not in (None, "") else []
        return tuple(_coerced(entry, typing.get_args(kind)[0], where) for entry in entries)
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as text
        except ValueError:
            pass
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(kind, "a mapping")
    raise ManifestError(f"{where}: found {value!r}, expected {wanted}")


__all__ = ["STAGES", "Recipe", "build_recipe", "change_recipe", "load_recipe", "recipe_names"]
