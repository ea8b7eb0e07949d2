"""Checkpoints of a run: everything a step depends on, as safetensors and JSON. Nothing is pickled or unpickled."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.atomic import sync_folder, write_bytes, write_text
from pipeline.errors import TrainingError

FOLDER = "checkpoints"
NAME = re.compile(r"step-(\d{8})")
STATE = "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
FORMAT = 1
GROUPS = frozenset({"model", "ema", "optimizer"})
STATES = frozenset({"best", "running", "scaler"})  # what a run cannot go on without


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """``tensors``: by group (GROUPS), then by name. ``state``: plain JSON values, those of STATES among them."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write ``checkpoints/step-XXXXXXXX`` whole or not at all, then delete all but the newest ``keep``."""
    from safetensors.torch import save

    home = run / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    for stale in home.glob(".unfinished-*"):
        shutil.rmtree(stale)
    temporary = home / f".unfinished-{secrets.token_hex(4)}"
    temporary.mkdir()
    final = home / f"step-{checkpoint.step:08d}"
    state = {"format": FORMAT, "step": checkpoint.step, "groups": sorted(checkpoint.tensors), "state": checkpoint.state}
    try:
        for group, tensors in checkpoint.tensors.items():
            # Copies: a tensor that shares its memory with another is refused by safetensors.
            copies = {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in tensors.items()
            }
            write_bytes(temporary / f"{group}.safetensors", save(copies))
        write_text(temporary / STATE, json.dumps(state, indent=1))
    except BaseException as error:
        shutil.rmtree(temporary)  # a full disk needs the room
        if isinstance(error, OSError) and error.filename:
            error.filename = str(final)
        raise
    if final.exists():  # left by a run that was killed after writing it and resumed from an older one
        shutil.rmtree(final)
    temporary.rename(final)
    sync_folder(home)
    for step in steps_saved(run)[: -max(1, keep)]:
        shutil.rmtree(home / f"step-{step:08d}")
    return final


def steps_saved(run: Path) -> list[int]:
    """The steps with a checkpoint, rising."""
    matches = (NAME.fullmatch(entry.name) for entry in (run / FOLDER).glob("step-*"))
    return sorted(int(match[1]) for match in matches if match)


def load_checkpoint(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, or None. Raises TrainingError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    steps = steps_saved(run)
    if not steps:
        return None
    folder = run / FOLDER / f"step-{steps[-1]:08d}"
    advice = f"delete {folder} to go on from the one before"
    try:
        saved = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if saved.get("format") != FORMAT:
            raise TrainingError(f"{folder}: checkpoint format {saved.get('format')!r}, this version reads {FORMAT}")
        if lacking := sorted((GROUPS - {*saved["groups"]}) | (STATES - saved["state"].keys())):
            raise ValueError(f"without {', '.join(lacking)}")
        tensors = {group: load_file(folder / f"{group}.safetensors") for group in GROUPS}
        return Checkpoint(step=int(saved["step"]), tensors=tensors, state=saved["state"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise TrainingError(f"{folder}: a damaged checkpoint ({error}); {advice}") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """AdamW's moments and step counts as flat names: ``exp_avg/<parameter>`` and so on."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    flat = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key in (*MOMENTS, "step") if parameter in optimizer.state else ():
                flat[f"{key}/{names[parameter]}"] = optimizer.state[parameter][key]
    return flat


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``. Raises TrainingError when the names do not fit."""
    parameters = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Tensor]] = {}
    index = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = parameters[parameter]
            found = {key: tensors.get(f"{key}/{name}") for key in (*MOMENTS, "step")}
            if all(value is not None for value in found.values()):
                state[index] = {key: _like(parameter, value) for key, value in found.items() if value is not None}
            elif tensors:
                raise TrainingError(
                    f"the checkpoint's optimiser state has no values for {name!r}; it is of another network"
                )
            index += 1
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of ``value``, in the parameter's memory order where it has its shape."""
    return torch.empty_like(parameter, device=value.device).copy_(value) if value.ndim else value.clone()


def fill(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load parameters by name. Raises TrainingError when names or shapes differ."""
    wanted = module.state_dict()
    differing = sorted(wanted.keys() ^ tensors.keys()) or [
        name for name in wanted if wanted[name].shape != tensors[name].shape
    ]
    if differing:
        raise TrainingError(f"the checkpoint's {what} does not fit this network: {', '.join(differing[:3])}")
    module.load_state_dict(dict(tensors))
