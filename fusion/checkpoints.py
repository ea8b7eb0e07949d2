"""Checkpoints that resume to the bit: tensors as safetensors, numbers as JSON, a folder that appears whole."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.atomic import sync_folder, write_bytes, write_text
from pipeline.errors import TrainingError

NAME = re.compile(r"step-(\d{8})")
TENSORS, STATE = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """``step`` updates are done. ``numbers`` is whatever else the loop must remember (best value, loss scale, …)."""

    step: int
    numbers: dict[str, Any]
    tensors: dict[str, Tensor]


def gather(model: nn.Module, optimizer: torch.optim.Optimizer, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a run by name: ``model.*``, ``average.*`` and ``optimizer.<parameter>.<name>``."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def restore(
    checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> None:
    """Put a checkpoint's tensors back. Raises TrainingError when they are not this run's."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
    for name, value in checkpoint.tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in parts["model"].items()}
    if wanted != found:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise TrainingError(f"the checkpoint is of another network: {', '.join(differ[:3])} differ")
    model.load_state_dict(parts["model"])
    for name, value in parts["average"].items():
        average[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimizer"].items():
        index, _, entry = name.partition(".")
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write ``folder``/step-N under a temporary name, rename it, and drop all but the newest ``keep``."""
    from safetensors.torch import save

    target = folder / f"step-{checkpoint.step:08d}"
    temporary = folder / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_bytes(temporary / TENSORS, save(checkpoint.tensors))
    write_text(temporary / STATE, json.dumps({"step": checkpoint.step, **checkpoint.numbers}, indent=2) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    sync_folder(folder)
    for old in list_checkpoints(folder)[: -max(1, keep)]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, or None. Raises TrainingError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    found = list_checkpoints(folder)
    if not found:
        return None
    path = found[-1]
    try:
        numbers = json.loads((path / STATE).read_text(encoding="utf-8"))
        tensors = load((path / TENSORS).read_bytes())
        step = int(numbers.pop("step"))
    except (OSError, json.JSONDecodeError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f"{path}: not a readable checkpoint ({error}); delete it to resume from the one before"
        ) from error
    return Checkpoint(step=step, numbers=numbers, tensors=tensors)


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir())
