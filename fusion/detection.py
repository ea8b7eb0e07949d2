"""Does fusing help a detector? COCO's average precision of boxes found in each method's images."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fusion.boxes import label_lines
from fusion.methods import Pixels
from pipeline.errors import InputError, MissingPackage, closest
from pipeline.words import shown

MSRS_CLASSES = ("person", "bicycle", "car")
Detector = Callable[[Pixels], "list[Box]"]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box in pixels: left, top, width, height. ``confidence`` is 1 for a label."""

    label: int
    left: float
    top: float
    width: float
    height: float
    confidence: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DetectionScore:
    """Average precision, 0..1: at IoU 0.5, over IoU 0.5 to 0.95, and at 0.5 by class (None: no such label)."""

    at_50: float
    at_50_to_95: float
    classes: dict[str, float | None]
    images: int
    labels: int


def read_boxes(path: Path, size: tuple[int, int], classes: int, *, with_confidence: bool) -> list[Box]:
    """A YOLO text file: ``class cx cy w h [confidence]``, fractions of the image's ``size`` (height, width).

    Raises InputError naming the line: not numbers, an unknown class, a value out of 0..1, a missing confidence.
    """
    boxes = []
    for number, line in enumerate(label_lines(path), start=1):
        if not line.strip():
            continue
        words = line.split()
        expected = 6 if with_confidence else 5
        try:
            label, values = int(words[0]), [float(word) for word in words[1:expected]]
        except ValueError as error:
            raise InputError(f"{path}:{number}: {line!r} is not `class cx cy w h`: {error}") from error
        if len(words) != expected:
            form = "class cx cy w h confidence" if with_confidence else "class cx cy w h"
            raise InputError(f"{path}:{number}: {len(words)} values, expected {expected} ({form})")
        if not 0 <= label < classes:
            raise InputError(f"{path}:{number}: class {label}, expected 0 to {classes - 1}")
        if not all(math.isfinite(value) and -1e-3 <= value <= 1.001 for value in values):
            raise InputError(f"{path}:{number}: {line!r} has values out of 0..1; they are fractions of the image")
        across, down, width, height = values[:4]
        boxes.append(
            Box(
                label=label,
                left=(across - width / 2) * size[1],
                top=(down - height / 2) * size[0],
                width=width * size[1],
                height=height * size[0],
                confidence=values[4] if with_confidence else 1.0,
            )
        )
    return boxes


def read_folder(
    folder: Path, sizes: Mapping[str, tuple[int, int]], classes: int, *, with_confidence: bool
) -> dict[str, list[Box]]:
    """Boxes of every image by stem. A file without boxes must be there and empty, so that a gap is not a prediction.

    Raises InputError listing the stems that have no file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of {'predictions' if with_confidence else 'labels'}")
    missing = sorted(stem for stem in sizes if not (folder / f"{stem}.txt").is_file())
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(sizes)} images have no text file: {shown(missing)}; "
            "an image without boxes has an empty one"
        )
    return {
        stem: read_boxes(folder / f"{stem}.txt", size, classes, with_confidence=with_confidence)
        for stem, size in sizes.items()
    }


def check_labels(labels: Mapping[str, Sequence[Box]]) -> int:
    """The number of labelled boxes. Raises InputError when there is none, MissingPackage without pycocotools."""
    if util.find_spec("pycocotools") is None:
        raise MissingPackage("detection scores need pycocotools: pip install 'fusioncli[downstream]'")
    total = sum(len(boxes) for boxes in labels.values())
    if not total:
        raise InputError("the labels hold no box at all, so there is nothing to find")
    return total


def average_precision(
    labels: Mapping[str, Sequence[Box]],
    found: Mapping[str, Sequence[Box]],
    sizes: Mapping[str, tuple[int, int]],
    names: Sequence[str] = MSRS_CLASSES,
) -> DetectionScore:
    """COCO evaluation (pycocotools) of ``found`` against ``labels``, both by image stem. Raises as ``check_labels``."""
    total = check_labels(labels)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    stems = sorted(sizes)
    truth, results = COCO(), COCO()
    images = [
        {"id": index, "height": sizes[stem][0], "width": sizes[stem][1]} for index, stem in enumerate(stems, start=1)
    ]
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    truth.dataset = {"images": images, "categories": categories, "annotations": _annotations(stems, labels)}
    results.dataset = {"images": images, "categories": categories, "annotations": _annotations(stems, found)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        results.createIndex()
        evaluation = COCOeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]  # IoU 0.5, all sizes, 100 boxes an image
    return DetectionScore(
        at_50=float(evaluation.stats[1]),
        at_50_to_95=float(evaluation.stats[0]),
        classes={name: _mean(precision[:, index]) for index, name in enumerate(names)},
        images=len(stems),
        labels=total,
    )


def _annotations(stems: Sequence[str], boxes: Mapping[str, Sequence[Box]]) -> list[dict[str, Any]]:
    flat = [(index, box) for index, stem in enumerate(stems, start=1) for box in boxes.get(stem, ())]
    return [
        {
            "id": number,
            "image_id": index,
            "category_id": box.label,
            "bbox": [box.left, box.top, box.width, box.height],
            "area": box.width * box.height,
            "iscrowd": 0,
            "score": box.confidence,
        }
        for number, (index, box) in enumerate(flat, start=1)
    ]


def _mean(precision: Any) -> float | None:
    known = precision[precision > -1]
    return float(np.mean(known)) if known.size else None


def check_model(option: str, name: str) -> None:
    """Raises InputError for what looks like a path and is none, before a Hub is asked for it."""
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).expanduser().exists():
        raise InputError(f"{option} {name}: no such folder; give a folder or a Hub id such as owner/model")


def load_detector(
    name: str, names: Sequence[str] = MSRS_CLASSES, *, device: str = "cpu", threshold: float = 0.001
) -> Detector:
    """An object detector of transformers by Hub id or folder, as a function from an image to boxes of ``names``.

    The detector's own label names are matched to ``names`` without regard to case. Raises InputError when it knows none
    of them or cannot be loaded, MissingPackage without transformers.
    """
    check_model("--detector", name)
    if util.find_spec("transformers") is None:
        raise MissingPackage("a detector needs transformers: pip install 'fusioncli[downstream]'")
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForObjectDetection.from_pretrained(name).eval().to(device)
    except (OSError, ValueError) as error:
        raise InputError(f"--detector {name}: not loadable as an object detector ({error})") from error
    known = {str(label).lower(): int(index) for index, label in model.config.id2label.items()}
    wanted = {known[label.lower()]: place for place, label in enumerate(names) if label.lower() in known}
    if not wanted:
        raise InputError(
            f"--detector {name}: it knows none of {', '.join(names)}{closest(names[0], known)}; its labels: {shown(known)}"
        )

    def detect(pixels: Pixels) -> list[Box]:
        image = Image.fromarray(pixels).convert("RGB")
        inputs = processor(images=image, return_tensors="pt").to(device)
        with torch.inference_mode():
            raw = model(**inputs)
        found = processor.post_process_object_detection(
            raw, threshold=threshold, target_sizes=[(image.height, image.width)]
        )[0]
        return [
            Box(
                label=wanted[int(label)],
                left=float(box[0]),
                top=float(box[1]),
                width=float(box[2] - box[0]),
                height=float(box[3] - box[1]),
                confidence=float(score),
            )
            for label, box, score in zip(found["labels"], found["boxes"], found["scores"], strict=True)
            if int(label) in wanted
        ]

    return detect
