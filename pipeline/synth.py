"""The synthetic set: drawn street scenes in both modalities, with degradations whose kind and severity are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.atomic import atomic_path, write_text
from pipeline.canvas import Plane, clouds
from pipeline.console import progress
from pipeline.degrade import degrade, labels_for
from pipeline.errors import InputError
from pipeline.events import SEVERITIES
from pipeline.hours import HOURS
from pipeline.street import Street

HEIGHT, WIDTH = 192, 256
FINER = 2  # scenes are drawn this much larger and averaged down: smooth edges
MOST = 100_000  # pairs: their numbers have five digits
SMALLEST, LARGEST = 32, 4096  # pixels a side
EVERY_TEST = 5  # every fifth pair is held out
CLEAN_SHARE = 0.25  # of each modality's images have no degradation
SECOND_SHARE = 0.2  # of the degraded ones have two
APART = frozenset({frozenset({"low_light", "over_exposure"}), frozenset({"low_light", "low_contrast"}),
                   frozenset({"over_exposure", "low_contrast"})})  # fmt: skip # one hides the other
ORDER = ("motion_blur", "low_contrast", "low_light", "over_exposure", "sensor_artifact", "infrared_noise", "high_noise")


@dataclass(frozen=True, kw_only=True)
class KnownEvent:
    """One degradation that was drawn."""

    modality: str
    type: str
    severity: str


@dataclass(frozen=True, kw_only=True)
class DrawnPair:
    """A scene before and after its degradations; visible (H, W, 3) and infrared (H, W) float32 in 0..1."""

    key: str
    hour: str
    clean_visible: Plane
    clean_infrared: Plane
    visible: Plane
    infrared: Plane
    events: tuple[KnownEvent, ...]


def draw_pair(seed: int, index: int, height: int = HEIGHT, width: int = WIDTH) -> DrawnPair:
    """Pair number ``index``: a pure function of its arguments."""
    rng = np.random.default_rng([seed, index])
    hour = HOURS[(index + index // len(HOURS)) % len(HOURS)]
    canvas = Street(rng, hour, FINER * height, FINER * width).draw()
    visible, infrared = _average(canvas.visible()), _average(canvas.infrared())
    infrared += np.float32(0.006) * clouds(rng, height, width, 6, 3)  # an uncooled detector is never quite even
    visible += rng.normal(0, 0.004, visible.shape).astype(np.float32)
    infrared += rng.normal(0, 0.004, infrared.shape).astype(np.float32)
    clean = {"visible": visible.clip(0, 1), "infrared": infrared.clip(0, 1)}
    seen, events = dict(clean), []
    for modality in clean:
        for label in _choose(rng, modality, hour):
            severity = str(rng.choice(SEVERITIES))
            seen[modality] = degrade(rng, seen[modality], label, severity)
            events.append(KnownEvent(modality=modality, type=label, severity=severity))
    held_out = index % EVERY_TEST == EVERY_TEST - 1
    return DrawnPair(
        key=f"{'test' if held_out else 'train'}-{index:05d}-{hour}",
        hour=hour,
        clean_visible=clean["visible"],
        clean_infrared=clean["infrared"],
        visible=seen["visible"],
        infrared=seen["infrared"],
        events=tuple(events),
    )


def draw_pairs(
    folder: Path, pairs: int, seed: int, *, height: int = HEIGHT, width: int = WIDTH, clean: bool = False
) -> list[tuple[KnownEvent, ...]]:
    """Draw ``pairs`` pairs into ``folder``/vi and /ir, with ``truth.jsonl`` beside them; the events of each.

    Every fifth pair is named ``test-…``, the others ``train-…``. With ``clean`` the undegraded images go to
    ``clean/vi`` and ``clean/ir``. A line of the truth: {"key", "hour", "split", "events": [{modality, type, severity}]}.
    The folder appears when all is drawn. Raises InputError for a number or size out of bounds, or a folder that already holds something.
    """
    if pairs < 1:
        raise InputError(f"--pairs is {pairs}; draw at least one pair")
    if pairs > MOST:
        raise InputError(f"--pairs is {pairs}; draw at most {MOST:,}")
    if not SMALLEST <= min(height, width) <= max(height, width) <= LARGEST:
        raise InputError(f"a scene of {width} x {height} pixels: a side has {SMALLEST} to {LARGEST}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists and is not an empty folder; name a new one")
    names = ("vi", "ir", "clean/vi", "clean/ir") if clean else ("vi", "ir")
    with _whole_folder(folder) as begun:
        return _draw(begun, names, pairs, seed, height, width)


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of ``folder``, empty or absent, once all is in it; what an earlier process left goes."""
    begun = folder.absolute().with_name(f".{folder.absolute().name}.drawing")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    try:
        yield begun
        begun.replace(folder)
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _draw(
    folder: Path, names: tuple[str, ...], pairs: int, seed: int, height: int, width: int
) -> list[tuple[KnownEvent, ...]]:
    for name in names:
        (folder / name).mkdir(parents=True)
    drawn, truth = [], []
    with progress() as bar:
        for index in bar.track(range(pairs), description="drawing"):
            pair = draw_pair(seed, index, height, width)
            pictures = (pair.visible, pair.infrared, pair.clean_visible, pair.clean_infrared)
            for name, picture in zip(names, pictures, strict=False):
                _save(folder / name / f"{pair.key}.png", picture)
            drawn.append(pair.events)
            truth.append(_truth_line(pair))
    write_text(folder / "truth.jsonl", "".join(truth))
    return drawn


def read_truth(path: Path) -> dict[str, list[KnownEvent]]:
    """The events of a ``truth.jsonl`` by key. Raises InputError naming the line that is wrong."""
    truth: dict[str, list[KnownEvent]] = {}
    if not path.is_file():
        raise InputError(f"{path}: no such file; `fusioncli data synth` writes it beside the pictures")
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            record = json.loads(line)
            truth[record["key"]] = [
                KnownEvent(modality=event["modality"], type=event["type"], severity=event["severity"])
                for event in record["events"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a line of known events ({error})") from error
    return truth


def _choose(rng: np.random.Generator, modality: str, hour: str) -> list[str]:
    """Degradations of one image in the order in which light meets them: movement, air, exposure, then the sensor."""
    if rng.random() < CLEAN_SHARE:
        return []
    labels = list(labels_for(modality))
    weights = np.array(
        [2.0 if (label, hour) in (("low_light", "night"), ("over_exposure", "day")) else 1.0 for label in labels]
    )
    if hour == "day" and "low_light" in labels:
        weights[labels.index("low_light")] = 0.3
    count = 2 if rng.random() < SECOND_SHARE else 1
    chosen = [str(label) for label in rng.choice(labels, size=count, replace=False, p=weights / weights.sum())]
    if frozenset(chosen) in APART:
        chosen = chosen[:1]
    return sorted(chosen, key=ORDER.index)


def _average(plane: Plane) -> Plane:
    height, width = plane.shape[0] // FINER, plane.shape[1] // FINER
    blocks = plane.reshape(height, FINER, width, FINER, *plane.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _save(path: Path, picture: Plane) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(temporary, compress_level=3)


def _truth_line(pair: DrawnPair) -> str:
    events = [{"modality": event.modality, "type": event.type, "severity": event.severity} for event in pair.events]
    record = {"key": pair.key, "hour": pair.hour, "split": pair.key.split("-")[0], "events": events}
    return json.dumps(record) + "\n"
