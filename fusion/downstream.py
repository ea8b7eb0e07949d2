"""Does fusing help what comes after it? Detection and segmentation scores of every method of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fusion.benchmark import BenchSet
from fusion.detection import MSRS_CLASSES, Box, Detector, average_precision, check_labels, load_detector, read_folder
from fusion.image_memory import fuse_once
from fusion.methods import Method, Pixels
from fusion.results import ExtraTable
from fusion.segmentation import SegmentationScore, Segmenter, load_segmenter, mean_iou
from fusion.tables import number
from fusion.targets import labels_beside
from pipeline.console import progress
from pipeline.errors import InputError, MissingPackage
from pipeline.images import probe_image, read_numbers
from pipeline.pairs import Pair, read_pair
from pipeline.words import shown


@dataclass(frozen=True, kw_only=True)
class DetectionTask:
    """What to detect with (a model, folders of predictions by name, or both) and the labels to compare with."""

    detector: str | None
    detect: Detector | None
    predictions: Mapping[str, Path]
    labels: Mapping[str, Path]  # data set -> folder
    allow_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class SegmentationTask:
    """The same for masks of class numbers, ``<stem>.png``; ``names`` are the classes in order."""

    segmenter: str | None
    segment: Segmenter | None
    masks: Mapping[str, Path]
    labels: Path
    names: tuple[str, ...]
    allow_missing: bool = False


def detection_task(
    sets: Sequence[BenchSet],
    root: Path,
    *,
    detector: str | None,
    predictions: Mapping[str, str],
    labels: Path | None,
    device: str,
    allow_missing: bool,
) -> DetectionTask | None:
    """Read and load all that detection needs, so that what is wrong is said before any work; None if not asked for."""
    if not detector and not predictions:
        return None
    if detector:
        _check_names("--predictions", predictions, sets)
    found = {one.manifest.name: labels or labels_beside(root / one.manifest.folder, one.split) for one in sets}
    lacking = [name for name, folder in found.items() if folder is None]
    if lacking:
        raise InputError(f"{', '.join(lacking)}: no boxes to compare with beside the images; give --labels FOLDER")
    task = DetectionTask(
        detector=detector,
        detect=load_detector(detector, device=device) if detector else None,
        predictions={name: Path(folder) for name, folder in predictions.items()},
        labels={name: folder for name, folder in found.items() if folder is not None},
        allow_missing=allow_missing,
    )
    for one in sets:
        sizes = image_sizes(one.pairs)
        folder = task.labels[one.manifest.name]
        truth = read_folder(folder, sizes, len(MSRS_CLASSES), with_confidence=False)
        for there in (set(sizes), *(set(_predicted(task, given, sizes)) for given in task.predictions.values())):
            with _where(folder):
                check_labels({stem: truth[stem] for stem in there})
    return task


def segmentation_task(
    sets: Sequence[BenchSet],
    *,
    segmenter: str | None,
    masks: Mapping[str, str],
    labels: Path | None,
    names: Sequence[str],
    device: str,
    allow_missing: bool,
) -> SegmentationTask | None:
    """The same for segmentation."""
    if not segmenter and not masks:
        return None
    if labels is None or not names:
        raise InputError("segmentation needs --mask-labels (a folder of label masks) and --mask-classes (names)")
    if "" in names or len(set(names)) < len(names):
        raise InputError(f"--mask-classes {','.join(names)}: every class needs a name of its own, in order")
    if segmenter:
        _check_names("--masks", masks, sets)
    for one in sets:
        sizes = image_sizes(one.pairs)
        present(labels, list(sizes), ".png", False)
        if segmenter:
            check_sizes(labels, sizes)
    task = SegmentationTask(
        segmenter=segmenter,
        segment=load_segmenter(segmenter, device=device) if segmenter else None,
        masks={name: Path(folder) for name, folder in masks.items()},
        labels=labels,
        names=tuple(names),
        allow_missing=allow_missing,
    )
    for one in sets:
        for folder in (labels, *task.masks.values()):
            _masked(task, folder, [pair.stem for pair in one.pairs])
    return task


def detections(bench: BenchSet, out: Path, task: DetectionTask) -> ExtraTable:
    """Average precision per method. Images without a prediction are no part of a method's score, and counted."""
    sizes = image_sizes(bench.pairs)
    labels = task.labels[bench.manifest.name]
    truth = read_folder(labels, sizes, len(MSRS_CLASSES), with_confidence=False)
    boxes: dict[str, dict[str, list[Box]]] = {
        name: _predicted(task, folder, sizes) for name, folder in task.predictions.items()
    }
    if task.detect:
        for method in bench.methods:
            images = fused_images(bench, method, out, "detecting")
            boxes[method.card.title] = {pair.stem: task.detect(image) for pair, image in images}
    rows = []
    for name, found in boxes.items():
        score = average_precision(
            {stem: truth[stem] for stem in found}, found, {stem: sizes[stem] for stem in found}, MSRS_CLASSES
        )
        classes = [number(score.classes[label]) for label in MSRS_CLASSES]
        rows.append([name, number(score.at_50), number(score.at_50_to_95), *classes])
    gaps = _gaps({name: len(found) for name, found in boxes.items()}, len(sizes))
    return ExtraTable(
        anchor=f"detection-{bench.manifest.name}",
        title=f"Detection: {bench.manifest.name}",
        label="Detection",
        about=f"COCO evaluation on {len(sizes)} images, labels {labels.parent.name}/{labels.name}; detector: "
        f"{task.detector or 'given predictions'}.{gaps}",
        header=("method", "mAP@0.5", "mAP@0.5:0.95", *(f"{name} @0.5" for name in MSRS_CLASSES)),
        rows=tuple(map(tuple, rows)),
    )


def segmentations(bench: BenchSet, out: Path, task: SegmentationTask) -> ExtraTable:
    """Mean IoU per method. Images without a mask are no part of a method's score, and counted."""
    stems = [pair.stem for pair in bench.pairs]
    scores = {name: _masked(task, folder, stems) for name, folder in task.masks.items()}
    if task.segment:
        truth = {stem: read_mask(task.labels / f"{stem}.png") for stem in stems}
        for method in bench.methods:
            images = fused_images(bench, method, out, "segmenting")
            scores[method.card.title] = mean_iou(
                ((truth[pair.stem], task.segment(image)) for pair, image in images), task.names
            )
    return ExtraTable(
        anchor=f"segmentation-{bench.manifest.name}",
        title=f"Segmentation: {bench.manifest.name}",
        label="Segmentation",
        about=f"{len(stems)} images; model: {task.segmenter or 'given masks'}.{_gaps({name: score.images for name, score in scores.items()}, len(stems))}",
        header=("method", "mIoU", *task.names),
        rows=tuple(
            (name, number(score.mean), *(number(score.classes[label]) for label in task.names))
            for name, score in scores.items()
        ),
    )


def image_sizes(pairs: Sequence[Pair]) -> dict[str, tuple[int, int]]:
    """(height, width) by stem."""
    return {pair.stem: probe_image(pair.first).size for pair in pairs}


def present(folder: Path, stems: Sequence[str], suffix: str, allow_missing: bool) -> list[str]:
    """The stems that have a file in ``folder``. Raises InputError where some have none, unless that is allowed."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; one with {stems[0]}{suffix} and so on was expected")
    there = [stem for stem in stems if (folder / f"{stem}{suffix}").is_file()]
    missing = sorted(set(stems) - set(there))
    if not there or (missing and not allow_missing):
        raise InputError(f"{folder}: {len(missing)} of {len(stems)} images have no file *{suffix}: {shown(missing)}")
    return there


def check_sizes(labels: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raises InputError where a label mask is not as large as its image; ``sizes``: (height, width) by stem."""
    for stem, (height, width) in sizes.items():
        path = labels / f"{stem}.png"
        mask = probe_image(path)
        if mask.size != (height, width):
            raise InputError(f"{path}: {mask.width} x {mask.height} pixels, its image {width} x {height}")


def read_mask(path: Path) -> Pixels:
    """(H, W) uint8 class numbers: grey levels, or the numbers behind a palette's colours; InputError for another picture."""
    numbers = read_numbers(path)
    if numbers is None:
        raise InputError(f"{path}: not a mask of class numbers (grey of 1 or 8 bits, or a palette)")
    return numbers


def fused_images(bench: BenchSet, method: Method, out: Path, doing: str) -> Iterator[tuple[Pair, Pixels]]:
    """A method's picture of every pair, where there is one; one at a time, for a data set may be large."""
    with progress() as bar:
        for pair in bar.track(bench.pairs, description=f"{doing} {method.card.name}"):
            visible, infrared = read_pair(pair, bench.manifest.channels)
            fused = fuse_once(method, pair, visible, infrared, out / "fused" / bench.manifest.name)
            if fused is not None:
                yield pair, fused


def _check_names(option: str, given: Mapping[str, str], sets: Sequence[BenchSet]) -> None:
    """Raises InputError where a row of the table would hide one of a method."""
    titles = {method.card.title for one in sets for method in one.methods}
    for name in given:
        if name in titles:
            raise InputError(f"{option} {name}: a method of this benchmark is called so; choose another name")


def _predicted(task: DetectionTask, folder: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, list[Box]]:
    if task.allow_missing:
        sizes = {stem: sizes[stem] for stem in present(folder, list(sizes), ".txt", True)}
    return read_folder(folder, sizes, len(MSRS_CLASSES), with_confidence=True)


def _masked(task: SegmentationTask, folder: Path, stems: Sequence[str]) -> SegmentationScore:
    there = present(folder, stems, ".png", task.allow_missing)
    with _where(folder):
        return mean_iou(
            ((read_mask(task.labels / f"{stem}.png"), read_mask(folder / f"{stem}.png")) for stem in there), task.names
        )


@contextmanager
def _where(folder: Path) -> Iterator[None]:
    """An InputError from inside the block names the folder that was read, or a file in it."""
    try:
        yield
    except MissingPackage:
        raise
    except InputError as error:
        raise error if str(error).startswith(str(folder)) else InputError(f"{folder}: {error}") from error


def _gaps(counts: Mapping[str, int], total: int) -> str:
    return "".join(
        f" {name}: {total - count} of {total} images are missing; its scores are over the others."
        for name, count in counts.items()
        if count < total
    )
