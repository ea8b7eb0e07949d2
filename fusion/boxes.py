"""Boxes around targets, from label files: ``class cx cy width height`` a line, in shares of the image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import InputError


def label_lines(path: Path) -> list[str]:
    """The lines of a label file. Raises InputError for one that is not text."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a label file in UTF-8 ({error})") from error


def target_boxes(path: Path, height: int, width: int) -> Tensor:
    """(K, 4) x0, y0, x1, y1 in pixels; K is 0 for an empty file. Raises InputError naming the line."""
    rows = []
    for number, line in enumerate(label_lines(path), start=1):
        if not line.strip():
            continue
        try:
            cx, cy, w, h = (float(part) for part in line.split()[1:5])
        except ValueError as error:
            raise InputError(f"{path}, line {number}: 'class cx cy width height' is expected, not {line!r}") from error
        if not (0 <= cx <= 1 and 0 <= cy <= 1 and 0 <= w <= 1 and 0 <= h <= 1):
            raise InputError(f"{path}, line {number}: shares of the image from 0 to 1 are expected, not {line!r}")
        rows.append(((cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height))
    return torch.tensor(rows).view(-1, 4)
