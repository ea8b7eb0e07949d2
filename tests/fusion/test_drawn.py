"""Drawn degradations: what the text says is what the pixels show, and what the loss weights follow from."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fusion.augment import Crop, generator
from fusion.drawn import BOTH, Degraded, Drawer
from fusion.losses import TERMS
from fusion.reader import open_pairs
from fusion.recipe import load_recipe
from pipeline.degrade import SEVERITIES, labels_for
from pipeline.embedders.hashing import HashingEmbedder, HashingSettings
from pipeline.events import Caption, Event
from pipeline.store import Store
from pipeline.task_file import load_task

MODALITIES = ("visible", "infrared")
TASK = load_task("ivf")
HASHING = HashingEmbedder(HashingSettings(width=512))


def drawer() -> Drawer:
    return Drawer({"embedder": HASHING.fingerprint()}, TASK, MODALITIES, "a store")


def textured() -> Crop:
    random = np.random.default_rng(3)
    return Crop(
        visible=random.uniform(0.1, 0.9, (3, 48, 48)).astype(np.float32),
        infrared=random.uniform(0.1, 0.9, (1, 48, 48)).astype(np.float32),
    )


def embedded(events: tuple[Event, ...], scene: str) -> bytes:
    return HASHING.embed([HASHING.fit(Caption(events=events, scene=scene)).text])[0].tobytes()


def said_of(degraded: Degraded, before: tuple[Event, ...], scene: str) -> tuple[list[str], list[str]]:
    """The modalities and the labels that the text names: of all events that there are, those of the same embedding.

    Words and their neighbours are all that is hashed, so where both images are degraded it may be open which is how.
    """
    single = [
        [(), *((Event(modality=name, type=label, severity=severity),) for label in labels_for(name) for severity in SEVERITIES)]
        for name in MODALITIES
    ]  # fmt: skip
    every = [first + second for first, second in product(*single)]
    found = [events for events in every if embedded((*events, *before), scene) == degraded.text.tobytes()]
    told = {(tuple(e.modality for e in events), tuple(sorted(e.type for e in events))) for events in found}
    ((modalities, labels),) = told
    return list(modalities), list(labels)


def test_the_text_names_the_image_that_is_degraded_and_nothing_else() -> None:
    crop, draw, seen = textured(), drawer().draw, Counter[tuple[str, ...]]()
    for visit in range(60):
        degraded = draw(crop, (), "", generator(0, visit, "pair"))
        said, labels = said_of(degraded, (), "")
        changed = [
            name
            for name, now, then in zip(MODALITIES, (degraded.crop.visible, degraded.crop.infrared), (crop.visible, crop.infrared), strict=True)
            if not np.array_equal(now, then)
        ]  # fmt: skip
        assert said == changed
        weights = TASK.weights_for(labels).as_dict()
        assert degraded.weights == pytest.approx([weights[name] for name in TERMS])
        seen[tuple(changed)] += 1
    assert seen.keys() == {("visible",), ("infrared",), MODALITIES}, "each image alone, and both at times"
    assert seen[MODALITIES] / 60 == pytest.approx(BOTH, abs=0.2)


def test_what_was_said_before_stays_but_for_being_clean() -> None:
    clean = Event(modality="visible", type=TASK.default, severity="slight")
    noisy = Event(modality="infrared", type=labels_for("infrared")[0], severity="severe")
    for visit in range(5):
        degraded = drawer().draw(textured(), (clean, noisy), "A street.", generator(0, visit, "pair"))
        _, labels = said_of(degraded, (noisy,), "A street.")
        weights = TASK.weights_for([noisy.type, *labels]).as_dict()
        assert degraded.weights == pytest.approx([weights[name] for name in TERMS])


@pytest.mark.parametrize("weights", ["default", "{ssim: 3}"])
def test_weights_that_do_not_come_from_the_prior_do_not_follow_a_drawn_event(store: Path, weights: str) -> None:
    recipe = load_recipe("tiny", "teacher", ["crop=48", "degrade=1", f"weights={weights}"])
    training, _ = open_pairs(Store.open(store), recipe)
    for visit in range(6):
        sample = training.sample(visit % 3, visit, recipe)
        assert not (sample.visible.equal(sample.target_visible) and sample.infrared.equal(sample.target_infrared))
        assert sample.weights[0].tolist() == training.weights[visit % 3].tolist()
