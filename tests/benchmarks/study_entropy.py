"""Prints how EN and departure move when the pixel maximum is brightened, stretched or mixed (docs/results.md).

``python tests/benchmarks/study_entropy.py msrs 30`` takes 30 evenly spaced test pairs of FUSIONCLI_DATA, else ../shared/data.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.score import prepare, score_fused
from pipeline.manifest import load_manifest
from pipeline.pairs import evenly_spaced, find_pairs, read_pair

NAMES = ("EN", "LFD", "SSIM")
Levels = NDArray[np.floating]


def variants(first: Levels, second: Levels) -> Iterator[tuple[str, Levels]]:
    """Grey images of 0..255 by name, all made of the pixel maximum."""
    brightest = np.maximum(first, second)
    yield "pixel maximum", brightest
    for gamma in (0.9, 0.8, 0.7):
        yield f"gamma {gamma}", 255 * (brightest / 255) ** gamma
    for gain in (1.05, 1.1, 1.2):
        yield f"contrast x {gain}", (brightest - brightest.mean()) * gain + brightest.mean()
    for name, other in (("first image", first), ("second image", second), ("mean", (first + second) / 2)):
        for share in (0.05, 0.1, 0.2, 0.3):
            yield f"{share:.0%} of the {name}", (1 - share) * brightest + share * other


def main() -> None:
    name, count = sys.argv[1:]
    root = Path(os.environ.get("FUSIONCLI_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    pairs = find_pairs(load_manifest(name), root, ["test"])
    scores: dict[str, list[list[float]]] = {}
    for number in evenly_spaced(len(pairs), int(count)):
        first, second = (np.rint(picture.as_grey() * 255) for picture in read_pair(pairs[number]))
        sources = prepare(first.astype(np.uint8), second.astype(np.uint8))
        for label, levels in variants(first, second):
            found = score_fused(sources, np.rint(levels.clip(0, 255)).astype(np.uint8), names=NAMES)
            scores.setdefault(label, []).append([float(found[metric] or 0) for metric in NAMES])
    print("| |" + "".join(f" {metric} |" for metric in NAMES) + "\n|---" + "|---:" * len(NAMES) + "|")
    for label, rows in scores.items():
        print(f"| {label} |" + "".join(f" {value:.3f} |" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
