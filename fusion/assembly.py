"""What a training is put together from: accelerator, network, objective, teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusion.beginning import begin, ignore_text
from fusion.blocks import Block
from fusion.catalog import Config, build_network, config_from_dict, network_entry
from fusion.distillation import Distillation
from fusion.edge import EdgeConfig
from fusion.loss_terms import DISTILLATION_TERMS, PRIOR_TERM
from fusion.network import NetworkConfig
from fusion.objective import Objective
from fusion.reader import Pairs
from fusion.recipe import Recipe
from fusion.run import BEST_SO_FAR, Origin
from fusion.text_space import check_mixed, check_reads, text_width
from fusion.weights import Weights, load_weights, recipe_of
from pipeline.console import note
from pipeline.errors import InputError, ManifestError, MissingPackage, TrainingError, closest


def make_accelerator(recipe: Recipe, out: Path) -> Any:
    """Devices, precision, processes and trackers.

    Raises InputError for a batch that the processes cannot share, and for fp16 without a GPU.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if AcceleratorState._shared_state and PartialState().num_processes == 1:
        # An earlier run in this process may differ in precision.
        AcceleratorState._reset_state(reset_partial_state=True)
    check_trackers(recipe.trackers)
    accelerator = Accelerator(
        mixed_precision="no" if recipe.precision == "fp32" else recipe.precision,
        log_with=list(recipe.trackers) or None,
        project_dir=str(out),
    )
    if recipe.precision == "fp16" and accelerator.device.type == "cpu":  # accelerate would go on in fp32
        raise InputError("precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    if recipe.batch_size % (accelerator.num_processes * recipe.accumulation):
        raise InputError(
            f"batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes with accumulation "
            f"{recipe.accumulation}; choose a multiple of {accelerator.num_processes * recipe.accumulation}"
        )
    return accelerator


def check_trackers(names: Sequence[str]) -> None:
    """Raise InputError for a tracker that accelerate does not know or whose package is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    ready = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
            raise InputError(f"no tracker {name!r}{closest(name, known)}; there are: {', '.join(known)}")
        if name not in ready:
            raise MissingPackage(f"tracker {name!r} needs its package: pip install {name}, or leave it out of trackers")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The weights a run is given: those it begins with, where they are not fresh, and its teachers'.

    No teacher, one for all stores, or one for each.
    """

    start: Weights | None
    teachers: tuple[Weights, ...]


def given_weights(start: str | Path | None, teachers: Sequence[str | Path], stores: int) -> Given:
    """Load what a new run on so many stores is given; a teacher whose training is not at its end is noted.

    Raises WeightsError, and InputError for a wrong number of teachers.
    """
    if len(teachers) not in {0, 1, stores}:
        raise InputError(
            f"{len(teachers)} teachers for {stores} store{'s' * (stores > 1)}; name one for all of them, or one for each"
        )
    given = Given(
        start=load_weights(start) if start else None, teachers=tuple(load_weights(teacher) for teacher in teachers)
    )
    for teacher in given.teachers:
        step, steps = (part.get(key) for part, key in ((teacher.config, "step"), (recipe_of(teacher), "steps")))
        if isinstance(step, int) and isinstance(steps, int) and step < steps and Path(teacher.name).name != BEST_SO_FAR:
            note(
                f"the teacher {teacher.name} stands at step {step} of {steps}: `fusioncli train-teacher --resume` goes on with it, "
                "and a student of it as it is now is not resumed after that"
            )
    return given


def recorded_weights(origin: Origin) -> Given:
    """Load what a run was started with. Raises WeightsError, and TrainingError when they are others by now."""
    start = _recorded(origin.start, "the weights to start from") if origin.start else None
    return Given(start=start, teachers=tuple(_recorded(saved, "the teacher's weights") for saved in origin.teachers))


def build_objective(recipe: Recipe, given: Given, stores: Sequence[Pairs]) -> Objective:
    """The network of the recipe, with fresh weights or those given, and its teachers if it has any.

    Raises InputError for stores whose texts do not go together, WeightsError for a teacher that reads others, and
    ManifestError for a loss without a term.
    """
    pairs = stores[0]
    config = network_entry(recipe.network).config
    reads = recipe.text and config.text_width is not None
    config = replace(config, text_width=pairs.text_width if reads else None)
    if isinstance(config, NetworkConfig):
        config = replace(config, fusion=recipe.fusion or config.fusion)
    network = build_network(config)
    if given.start:
        _begin_with(network, config, given.start)
    else:
        begin(network)
    factors = recipe.factors()
    reading = _reading(config, pairs.text_width) if PRIOR_TERM in factors else None
    read = reads or reading is not None or any(text_width(teacher) for teacher in given.teachers)
    check_mixed(stores, recipe.prior, read=read)
    for teacher in given.teachers:
        check_reads(teacher, pairs.shelf.fingerprint(recipe.prior)["embedder"], pairs.shelf.name)
    if not given.teachers:
        alone = {name: value for name, value in factors.items() if name not in DISTILLATION_TERMS}
        if not alone:
            raise ManifestError(f"recipe {recipe.name}: all terms of its loss come from a teacher, and there is none")
        return Objective(network, alone, reading=reading)
    teachers = [teacher.network for teacher in given.teachers]
    return Objective(network, factors, Distillation(teachers, network, features="features" in factors), reading)


def _reading(config: EdgeConfig | NetworkConfig, text_width: int) -> torch.nn.Linear | None:
    """What tells the text from a network's embedding of the whole image; None for a network that makes none."""
    width = config.context_width if isinstance(config, EdgeConfig) else 0
    return torch.nn.Linear(width, text_width) if width else None


def _recorded(saved: Mapping[str, str], what: str) -> Weights:
    weights = load_weights(saved["location"])
    if weights.sha256 != saved["sha256"]:
        raise TrainingError(
            f"{saved['location']}: {what} are {weights.sha256[:12]}…, this run was started with "
            f"{saved['sha256'][:12]}…; restore them or start a new run"
        )
    return weights


def _begin_with(network: torch.nn.Module, ours: Config, weights: Weights) -> None:
    """The given weights; those of the same network without text do for one that reads it, which then ignores it at first."""
    theirs = config_from_dict(weights.config)
    learns_to_read = ours.text_width is not None and theirs.text_width is None
    if theirs != (replace(ours, text_width=None) if learns_to_read else ours):
        raise InputError(
            f"--start-from {weights.name}: another network ({theirs}) than the recipe's ({ours}); "
            "choose its recipe, or --set network=NAME"
        )
    network.load_state_dict(weights.network.state_dict(), strict=not learns_to_read)
    if learns_to_read:
        ignore_text(network)


def compile_network(network: torch.nn.Module) -> None:
    """Compile what training calls; parameters and their names stay.

    An attention network is compiled block by block, one program for all blocks of a level: as a whole it does not end.
    Each size of image gets programs of its own, the crops of training and those of validation.
    """
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    if blocks:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(blocks))
        for block in blocks:
            block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]
    else:
        network.forward_features = torch.compile(network.forward_features)  # type: ignore[assignment,arg-type]
