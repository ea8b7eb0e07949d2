"""Does fusing help a segmenter? Mean intersection over union of masks from each method's images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import util

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fusion.detection import check_model
from fusion.methods import Pixels
from pipeline.errors import InputError, MissingPackage

IGNORED = 255  # pixels of this label count for nothing
Segmenter = Callable[[Pixels], "NDArray[np.uint8]"]


@dataclass(frozen=True, kw_only=True)
class SegmentationScore:
    """Intersection over union, 0..1: the mean over classes that occur, and by class (None: in neither mask)."""

    mean: float
    classes: dict[str, float | None]
    images: int


def mean_iou(pairs: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]], names: Sequence[str]) -> SegmentationScore:
    """Score (label, found) masks (H, W) of class numbers; all pixels of all images enter one table, as usual.

    Raises InputError: masks of different sizes, a class number that ``names`` does not have, nothing labelled.
    """
    size = len(names)
    table = np.zeros((size, size), dtype=np.int64)
    images = 0
    for label, found in pairs:
        if label.shape != found.shape:
            raise InputError(
                f"the mask is {found.shape[1]} x {found.shape[0]}, its label {label.shape[1]} x {label.shape[0]}"
            )
        counted = label != IGNORED
        for what, values in (("label", label[counted]), ("mask", found[counted])):
            if values.size and int(values.max()) >= size:
                raise InputError(
                    f"a {what} holds class {int(values.max())}; the classes are 0 to {size - 1} ({', '.join(names)})"
                )
        codes = label[counted].astype(np.int64) * size + found[counted]
        table += np.bincount(codes, minlength=size * size).reshape(size, size)
        images += 1
    if not table.sum():
        raise InputError("no labelled pixel at all, so there is nothing to compare")
    both = np.diag(table)
    either = table.sum(axis=0) + table.sum(axis=1) - both
    classes = {name: float(both[index] / either[index]) if either[index] else None for index, name in enumerate(names)}
    known = [value for value in classes.values() if value is not None]
    return SegmentationScore(mean=float(np.mean(known)), classes=classes, images=images)


def load_segmenter(name: str, *, device: str = "cpu") -> Segmenter:
    """A semantic segmentation model of transformers by Hub id or folder, as a function from an image to a mask.

    Raises InputError when it cannot be loaded, MissingPackage without transformers.
    """
    check_model("--segmenter", name)
    if util.find_spec("transformers") is None:
        raise MissingPackage("a segmenter needs transformers: pip install 'fusioncli[downstream]'")
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForSemanticSegmentation.from_pretrained(name).eval().to(device)
    except (OSError, ValueError) as error:
        raise InputError(f"--segmenter {name}: not loadable as a segmentation model ({error})") from error

    def segment(pixels: Pixels) -> NDArray[np.uint8]:
        image = Image.fromarray(pixels).convert("RGB")
        with torch.inference_mode():
            logits = model(**processor(images=image, return_tensors="pt").to(device)).logits
        full = torch.nn.functional.interpolate(logits, size=(image.height, image.width), mode="bilinear")
        mask: NDArray[np.uint8] = full.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
        return mask

    return segment
