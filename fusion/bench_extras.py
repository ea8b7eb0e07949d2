"""What a benchmark can show beside its scores: published rows, the ceiling, detection and segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from fusion.benchmark import BenchSet, channels, fuse_once
from fusion.ceiling import covered, push
from fusion.detection import MSRS_CLASSES, Box, average_precision, load_detector, read_folder
from fusion.methods import Method, Pixels, eight_bit, grey_bytes
from fusion.published import TABLES, load_paper, published_table
from fusion.report.page import Section
from fusion.results import DatasetResult, ExtraTable
from fusion.segmentation import load_segmenter, mean_iou
from pipeline.console import progress
from pipeline.errors import InputError
from pipeline.images import read_image
from pipeline.pairs import Pair, read_pair, shown


def published(datasets: Sequence[DatasetResult], numbers: tuple[str, ...] = TABLES) -> list[ExtraTable]:
    """The rows of the paper's tables ``numbers`` on these data sets."""
    paper = load_paper()
    tables = []
    for dataset in datasets:
        title, header, rows = published_table(paper, dataset.name, numbers)
        if rows:
            about = (
                "Printed in the paper, not measured here. Its test split, its metric scripts and its resolution may differ "
                f"from this run's ({dataset.split}, convention {dataset.convention}); compare only what agrees in all three."
            )
            tables.append(_table(f"published-{dataset.name}", title, about, header, rows))
    return tables


def ceilings(bench: BenchSet, result: DatasetResult, count: int) -> ExtraTable:
    """VIF + Qabf of every method on ``count`` pairs, beside what optimised pixels reach on the same pairs."""
    lacking = [metric for metric in ("VIF", "Qabf") if metric not in result.metrics]
    if lacking or result.convention != "standard":
        raise InputError("--ceiling needs VIF and Qabf among the metrics, in the convention standard")
    count = min(count, len(bench.pairs))
    chosen = [index * len(bench.pairs) // count for index in range(count)]
    reached, start = [], []
    with progress() as bar:
        for index in bar.track(chosen, description="ceiling"):
            visible, infrared = read_pair(bench.pairs[index], channels(bench.manifest))
            found = push(eight_bit(visible), grey_bytes(infrared))
            reached.append(found.reached)
            start.append(found.start)
    top, floor = float(np.mean(reached)), float(np.mean(start))
    rows = []
    for name, card in result.methods.items():
        sums = [(result.values[name]["VIF"][index], result.values[name]["Qabf"][index]) for index in chosen]
        known = [a + b for a, b in sums if a is not None and b is not None]
        mean = float(np.mean(known)) if len(known) == count else None
        share = covered(mean, floor, top) if mean is not None else None
        rows.append([card.title, _shown(mean), "–" if share is None else f"{share:.0%}"])
    rows.append(["optimised pixels", _shown(top), "100%"])
    about = (
        f"{count} evenly spaced pairs. The last row optimises the pixels themselves, from the maximum, for this very sum: a "
        "local search, so the true ceiling may lie higher. The share counts from the pixel maximum."
    )
    title = f"How much of the reachable VIF + Qabf is reached: {result.name}"
    return _table(f"ceiling-{result.name}", title, about, ["method", "VIF + Qabf", "share of the way"], rows)


def detections(
    bench: BenchSet, out: Path, labels: Path, *, detector: str | None, predictions: Mapping[str, str], device: str
) -> ExtraTable:
    """Average precision per method: boxes of ``detector`` on its images, or of a folder of predictions.

    ``labels`` and the prediction folders hold YOLO text files by stem. Raises InputError as their readers do.
    """
    sizes = {pair.stem: read_image(pair.first).size for pair in bench.pairs}
    truth = read_folder(labels, sizes, len(MSRS_CLASSES), with_confidence=False)
    boxes: dict[str, dict[str, list[Box]]] = {
        name: read_folder(Path(folder), sizes, len(MSRS_CLASSES), with_confidence=True)
        for name, folder in predictions.items()
    }
    if detector:
        detect = load_detector(detector, device=device)
        for method in bench.methods:
            images = _images(bench, method, out, "detecting")
            boxes[method.card.name] = {pair.stem: detect(image) for pair, image in images}
    rows = []
    for name, found in boxes.items():
        score = average_precision(truth, found, sizes)
        classes = [_shown(score.classes[label]) for label in MSRS_CLASSES]
        rows.append([name, _shown(score.at_50), _shown(score.at_50_to_95), *classes])
    header = ["method", "mAP@0.5", "mAP@0.5:0.95", *(f"{name} @0.5" for name in MSRS_CLASSES)]
    about = f"COCO evaluation on {len(sizes)} images, labels {labels.parent.name}/{labels.name}; detector: {detector or 'given predictions'}."
    return _table(f"detection-{bench.manifest.name}", f"Detection: {bench.manifest.name}", about, header, rows)


def segmentations(
    bench: BenchSet,
    out: Path,
    labels: Path,
    *,
    segmenter: str | None,
    masks: Mapping[str, str],
    names: Sequence[str],
    device: str,
) -> ExtraTable:
    """Mean IoU per method, of ``segmenter`` on its images or of folders of masks; ``labels``: masks by stem."""
    truth = {pair.stem: _mask(labels, pair.stem) for pair in bench.pairs}
    scores = {
        name: mean_iou(((truth[stem], _mask(Path(folder), stem)) for stem in truth), names)
        for name, folder in masks.items()
    }
    if segmenter:
        segment = load_segmenter(segmenter, device=device)
        for method in bench.methods:
            images = _images(bench, method, out, "segmenting")
            scores[method.card.name] = mean_iou(((truth[pair.stem], segment(image)) for pair, image in images), names)
    rows = [
        [name, _shown(score.mean), *(_shown(score.classes[label]) for label in names)] for name, score in scores.items()
    ]
    about = f"{len(truth)} images; model: {segmenter or 'given masks'}."
    title = f"Segmentation: {bench.manifest.name}"
    return _table(f"segmentation-{bench.manifest.name}", title, about, ["method", "mIoU", *names], rows)


def section(table: ExtraTable) -> Section:
    """The table for the page."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in table.rows
    )
    html = (
        f'<p class="quiet">{escape(table.about)}</p><div class="card"><div class="scroll"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></div>"
    )
    return Section(anchor=table.anchor, title=table.title, html=html)


def _images(bench: BenchSet, method: Method, out: Path, doing: str) -> list[tuple[Pair, Pixels]]:
    images = []
    with progress() as bar:
        for pair in bar.track(bench.pairs, description=f"{doing} {method.card.name}"):
            visible, infrared = read_pair(pair, channels(bench.manifest))
            fused = fuse_once(method, pair, visible, infrared, out / "fused" / bench.manifest.name)
            if fused is not None:
                images.append((pair, fused))
    return images


def _mask(folder: Path, stem: str) -> Pixels:
    path = folder / f"{stem}.png"
    if not path.is_file():
        raise InputError(
            f"{path}: no such mask; a folder of masks holds <stem>.png for every image, such as {shown([stem])}"
        )
    pixels = read_image(path).pixels
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise InputError(f"{path}: not a one-channel 8-bit mask of class numbers")
    return pixels.astype(np.uint8)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(anchor: str, title: str, about: str, header: list[str], rows: list[list[str]]) -> ExtraTable:
    return ExtraTable(anchor=anchor, title=title, about=about, header=tuple(header), rows=tuple(map(tuple, rows)))
