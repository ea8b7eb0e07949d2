"""Looking at a network during training: its loss and metrics on held-out pairs, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.objective import Objective
from fusion.reader import Batch, PairReader
from fusion.score import score
from pipeline.atomic import atomic_path

SIDE = 256  # pixels of the centre that is looked at
METRICS = ("EN", "VIF", "Qabf", "SSIM")
SHOWN = 4  # pairs in a picture strip

Strip = list[NDArray[np.uint8]]


def validate(objective: Objective, reader: PairReader, device: torch.device) -> tuple[dict[str, float], list[Strip]]:
    """Means over the validation slice, ``loss`` first, and strips of visible, infrared, teacher (if any), student."""
    losses: list[float] = []
    scores: dict[str, list[float]] = {name: [] for name in METRICS}
    strips: list[Strip] = []
    with torch.inference_mode():
        for batch in validation_batches(reader):
            moved = batch.to(device)
            losses.append(float(torch.stack(list(objective(moved).values())).sum()))
            pictures = [_pixels(batch.visible), _pixels(batch.infrared)]
            if objective.teacher is not None:
                pictures.append(_pixels(objective.fuse(moved, teacher=True)))
            pictures.append(_pixels(objective.fuse(moved)))
            values = score(pictures[0], pictures[1][:, :, 0], pictures[-1], names=list(METRICS))
            for name in METRICS:
                if values[name] is not None:
                    scores[name].append(float(values[name]))  # type: ignore[arg-type]
            if len(strips) < SHOWN:
                strips.append(pictures)
    means = {name: float(np.mean(values)) for name, values in scores.items() if values}
    return {"loss": float(np.mean(losses)), **means}, strips


def validation_batches(reader: PairReader) -> list[Batch]:
    """Each held-out pair's centre as a batch of one."""
    batches = []
    for sample in reader.validation:
        visible, infrared = reader.decode(sample)
        height, width = (min(SIDE, side - side % 8) for side in infrared.shape)
        top, left = (infrared.shape[0] - height) // 2, (infrared.shape[1] - width) // 2
        window = slice(top, top + height), slice(left, left + width)
        batches.append(
            Batch(
                keys=[sample.row.key],
                visible=torch.from_numpy(visible[window].astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous(),
                infrared=torch.from_numpy(infrared[window].astype(np.float32) / 255)[None, None],
                text=torch.from_numpy(sample.text)[None],
                weights=torch.from_numpy(sample.weights)[None],
            )
        )
    return batches


def save_strips(path: Path, strips: Sequence[Strip]) -> None:
    """One PNG: a row for each pair, its pictures side by side, rows padded to one width."""
    if not strips:
        return
    rows = [np.concatenate(strip, axis=1) for strip in strips]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(padded)).save(temporary, compress_level=1)


def gradient_shares(objective: Objective, batch: Batch) -> dict[str, float]:
    """How much each term of the loss pulls: the norm of its gradient over the network, as shares that sum to 1.

    A term whose share is near nothing does nothing, whatever its value.
    """
    parameters = [parameter for parameter in objective.network.parameters() if parameter.requires_grad]
    terms = objective(batch)
    norms = {}
    for name, value in terms.items():
        gradients = torch.autograd.grad(value.mean(), parameters, retain_graph=True, allow_unused=True)
        norms[name] = _norm([gradient for gradient in gradients if gradient is not None])
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}


def _norm(gradients: Sequence[Tensor]) -> float:
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm()) if gradients else 0.0


def _pixels(batch: Tensor) -> NDArray[np.uint8]:
    array = np.rint(batch[0].clamp(0, 1).cpu().numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else np.ascontiguousarray(array)


def improved(now: Mapping[str, float], best: float | None) -> bool:
    """Whether the validation loss is the lowest so far."""
    return best is None or now["loss"] < best
