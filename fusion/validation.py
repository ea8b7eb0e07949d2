"""Looking at held-out pairs while training: losses, metrics, and strips of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.batch import Batch
from fusion.methods import as_pixels
from fusion.objective import Objective, Outcome
from fusion.reader import Pairs
from fusion.score import score
from pipeline.atomic import atomic_path

METRICS = ("Qabf", "VIF", "SSIM")
BEST = "loss"  # lower is better; the measure of best-so-far
GAP = 4  # pixels between the pictures of a strip


@torch.no_grad()
def validate(
    objective: Objective, stores: Sequence[Pairs], side: int, device: torch.device, pictures: int, strip: Path | None
) -> dict[str, float]:
    """Means over the held-out pairs' middles (at most ``side`` pixels): ``loss``, its terms, Qabf, VIF, SSIM.

    For a network that reads text also ``loss_other_text``: the loss when each pair gets the next pair's text that differs
    from its own. What it is above ``loss`` is what the text is worth. Writes ``strip`` (visible, infrared, teacher, student) as PNG.
    """
    places = [(pairs, index) for pairs in stores for index in range(len(pairs))]
    if not places:
        return {}
    batches = [pairs.centre(index, side) for pairs, index in places]
    texts = [batch.text for batch in batches]
    reads_text = bool(getattr(objective.network.config, "text_width", None))
    was_training = objective.training
    objective.eval()
    sums: dict[str, list[float]] = {}
    rows = []
    for number, batch in enumerate(batches):
        batch = batch.to(device)
        outcome: Outcome = objective(batch)
        values = {"loss": float(outcome.total)} | {name: float(term) for name, term in outcome.terms.items()}
        other = _other_text(texts, number) if reads_text else None
        if other is not None:
            values["loss_other_text"] = float(objective(replace(batch, text=other.to(device))).total)
        values |= _metrics(batch, outcome.fused)
        for name, value in values.items():
            sums.setdefault(name, []).append(value)
        if number < pictures:
            rows.append(_row(objective, batch, outcome.fused))
    objective.train(was_training)
    if strip is not None and rows:
        save_strip(strip, rows)
    return {name: sum(values) / len(values) for name, values in sums.items()}


def _other_text(texts: Sequence[Tensor], number: int) -> Tensor | None:
    """The next different text after ``number``, going round; None when all are the same."""
    for step in range(1, len(texts)):
        candidate = texts[(number + step) % len(texts)]
        if not torch.equal(candidate, texts[number]):
            return candidate
    return None


def _metrics(batch: Batch, fused: Tensor) -> dict[str, float]:
    scores = score(as_pixels(batch.visible), as_pixels(batch.infrared), as_pixels(fused), names=METRICS)
    return {name: float(value) for name, value in scores.items() if value is not None}


def _row(objective: Objective, batch: Batch, fused: Tensor) -> list[NDArray[np.uint8]]:
    pictures = [batch.visible, batch.infrared, fused]
    if objective.distillation is not None:
        pictures.insert(2, objective.distillation.teach(batch)[0])
    return [as_pixels(picture) for picture in pictures]


def save_strip(path: Path, rows: Sequence[Sequence[NDArray[np.uint8]]]) -> None:
    """A white sheet with one row of pictures a pair."""
    heights = [row[0].shape[0] for row in rows]
    width = max(sum(picture.shape[1] + GAP for picture in row) - GAP for row in rows)
    sheet = np.full((sum(heights) + GAP * (len(rows) - 1), width, 3), 255, dtype=np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for picture in row:
            colour = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
            sheet[top : top + height, left : left + picture.shape[1]] = colour
            left += picture.shape[1] + GAP
        top += height + GAP
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, compress_level=1)
