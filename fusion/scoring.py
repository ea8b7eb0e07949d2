"""Scoring files: reads, scores and remembers; the work behind ``fusioncli score``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.metrics import COLOUR_NAMES
from fusion.score import Scores, as_batch, convention_named, known_names, one_thread, prepare, score_fused
from fusion.score_cache import ScoreCache, cache_folder
from fusion.scorecard import Scorecard, ScoredFile, check_files, find_files, read_eight_bit
from fusion.targets import TARGET_NAMES, boxes_of, check_boxes, score_targets
from pipeline.console import progress
from pipeline.errors import ImageError
from pipeline.images import probe_image

MOST_WORKERS = 8  # each holds about 100 MiB at 1280 x 1024


def workers_on(device: str) -> int:
    """How many threads score at once on a device, by its name."""
    return min(os.cpu_count() or 1, MOST_WORKERS) if device == "cpu" else 1


def score_files(
    first: Path,
    second: Path,
    fused: Path,
    convention: str = "standard",
    names: Sequence[str] | None = None,
    allow_missing: bool = False,
    cached: bool = True,
    device: str = "cpu",
    boxes: Path | None = None,
) -> Scorecard:
    """Score three files, or three folders matched by stem. Raises InputError kinds on anything that cannot be scored.

    ``boxes`` is a folder of label files (stem.txt; fusion.boxes): it adds the brightness and the contrast that targets
    keep, the mean over an image's boxes, undefined where it has none.
    """
    chosen = known_names(convention_named(convention), names)
    files, missing = find_files(first, second, fused, allow_missing)
    check_files(files, colour=bool(COLOUR_NAMES & set(chosen)))
    if boxes is not None:
        check_boxes(boxes, {file.name: probe_image(file.fused).size for file in files})
    cache = ScoreCache(cache_folder()) if cached else None

    def work(file: ScoredFile) -> Scores:
        scores = _score_file(file, convention, chosen, cache, device)
        return scores if boxes is None else scores | _score_targets(file, boxes, convention)

    images: dict[str, Scores] = {}
    with progress() as bar, ThreadPoolExecutor(workers_on(device)) as pool, one_thread():
        task = bar.add_task("scoring", total=len(files))
        try:
            for file, scores in zip(files, pool.map(work, files), strict=True):
                images[file.name] = scores
                bar.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad file ends the work at once, not after all the others
            raise
    names = chosen if boxes is None else (*chosen, *TARGET_NAMES)
    return Scorecard(convention=convention, names=names, images=images, missing=missing)


def _score_targets(file: ScoredFile, boxes: Path, convention: str) -> Scores:
    a, b, f = (_pixels(path) for path in (file.first, file.second, file.fused))
    found = boxes_of(boxes, file.name, (f.shape[0], f.shape[1]))
    return score_targets(prepare(a, b, convention).with_fused(as_batch(f, "fused image")), found)


def _pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(read_eight_bit(path).pixels, dtype=np.uint8)


def _score_file(
    file: ScoredFile, convention: str, names: tuple[str, ...], cache: ScoreCache | None, device: str
) -> Scores:
    known: Scores = {}
    key = ""
    if cache:
        key = cache.key([path.read_bytes() for path in (file.first, file.second, file.fused)], convention)
        known = cache.load(key)
    wanted = [name for name in names if name not in known]
    if wanted:
        first, second, fused = (read_eight_bit(path) for path in (file.first, file.second, file.fused))
        if not second.is_grey():
            raise ImageError(
                f"{file.second}: the second source (infrared or MRI) is expected to be grey but is coloured; "
                "give visible (or CT, PET, SPECT) first"
            )
        a, b, f = (np.asarray(picture.pixels, dtype=np.uint8) for picture in (first, second, fused))
        known |= score_fused(prepare(a, b, convention, device), f, convention, wanted)
        if cache:
            cache.save(key, known)
    return {name: known[name] for name in names}
