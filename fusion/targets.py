"""What targets keep: brightness and contrast inside given boxes, as scores of one image beside the other metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fusion.boxes import target_boxes
from fusion.metrics.departures import target_retention
from fusion.metrics.triples import Triple
from fusion.score import Scores
from pipeline.errors import InputError
from pipeline.words import listed

TARGET_UNITS = {"Target-level": "grey level", "Target-brightness": "", "Target-contrast": ""}
TARGET_NAMES = tuple(TARGET_UNITS)  # the higher the better, all of them


def boxes_of(folder: Path, stem: str, size: tuple[int, int]) -> Tensor:
    """(K, 4) boxes of one image (fusion.boxes); ``size`` is (height, width). Raises InputError where it has no file."""
    labels = folder / f"{stem}.txt"
    if not labels.is_file():
        raise InputError(f"{labels}: no such label file; every image needs one (empty where it has no target)")
    return target_boxes(labels, *size)


def check_boxes(folder: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Read the label files of images of these (height, width) by stem. One InputError for all that do not fit."""
    if not folder.is_dir():
        raise InputError(f"--boxes {folder}: no such folder of label files")
    problems: list[str] = []
    for stem, size in sizes.items():
        try:
            boxes_of(folder, stem, size)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(problems[0] if len(problems) == 1 else listed(problems))


def score_targets(triple: Triple, boxes: Tensor) -> Scores:
    """Means over the boxes of one image: the fused grey level, and what it keeps of the better source's brightness and
    contrast (1 is all). None without a box in the image."""
    kept = target_retention(triple.first, triple.second, triple.fused, boxes.to(triple.view.colour.device))
    means = (float(values.nanmean()) for values in (kept.level, kept.brightness, kept.contrast))
    return {name: value if math.isfinite(value) else None for name, value in zip(TARGET_NAMES, means, strict=True)}


def labels_beside(folder: Path, split: str) -> Path | None:
    """The data set's own boxes for a split (``<split>/det_labels/fusion``), if it has any."""
    labels = folder / split / "det_labels" / "fusion"
    return labels if labels.is_dir() else None
