"""Degradations drawn on purpose: the network sees the degraded pair with its text, the loss looks at the clean one."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion.augment import Crop, Floats
from fusion.losses import TERMS
from pipeline.degrade import degrade, labels_for
from pipeline.embedders.hashing import HashingEmbedder, HashingSettings
from pipeline.errors import InputError
from pipeline.events import SEVERITIES, Caption, Event
from pipeline.tasks import Task

BOTH = 0.3  # share of the drawn pairs whose two images are degraded
KEPT_TEXTS = 50_000  # vectors remembered; a text is embedded once


@dataclass(frozen=True, kw_only=True)
class Degraded:
    """A degraded crop with the embedding of its exact events and the loss weights that follow from them."""

    crop: Crop
    text: Floats
    weights: Floats


class Drawer:
    """Draws degradations and says them in the words of the store's own captions.

    The embedding has to come from the embedder of the prior. The hashing embedder is arithmetic, so texts of drawn
    events are embedded here; a prior of any other embedder is refused, since its model has no place in this stage.
    """

    def __init__(self, fingerprint: Mapping[str, Any], task: Task, modalities: tuple[str, str], store: str) -> None:
        embedder = fingerprint.get("embedder", {})
        if embedder.get("name") != HashingEmbedder.name:
            raise InputError(
                f"{store}: drawn degradations (recipe key degrade) need texts embedded while training, but this prior was "
                f"made with the embedder {embedder.get('name')!r}; embed its captions anew with `fusioncli caption --store "
                f"{store} --embedder hashing` and train with --prior text-hashing, or set degrade=0"
            )
        if not any(labels_for(name) for name in modalities):
            raise InputError(f"{store}: there are no degradations to draw on {' and '.join(modalities)}; set degrade=0")
        self.embedder = HashingEmbedder(HashingSettings(width=int(embedder["width"])))
        self.task = task
        self.modalities = modalities
        self._vectors: dict[str, Floats] = {}
        self._lock = threading.Lock()

    def draw(self, crop: Crop, events: Sequence[Event], scene: str, random: np.random.Generator) -> Degraded:
        """Degrade one or both images of a clean crop. ``events`` and ``scene``: what was said of the pair before."""
        both, side = random.random() < BOTH, int(random.integers(0, 2))
        images = [crop.visible.transpose(1, 2, 0), crop.infrared[0]]
        drawn = []
        for index, modality in enumerate(self.modalities):
            labels = labels_for(modality)
            if not labels or not (both or index == side or not labels_for(self.modalities[1 - index])):
                continue
            label = labels[int(random.integers(0, len(labels)))]
            severity = SEVERITIES[int(random.integers(0, len(SEVERITIES)))]
            images[index] = degrade(random, np.ascontiguousarray(images[index]), label, severity)
            drawn.append(Event(modality=modality, type=label, severity=severity))
        said = (*drawn, *(event for event in events if event.type != self.task.default))
        weights = self.task.weights_for(event.type for event in said).as_dict()
        return Degraded(
            crop=Crop(
                visible=np.ascontiguousarray(images[0].transpose(2, 0, 1)),
                infrared=np.ascontiguousarray(images[1][None]),
            ),
            text=self._embed(Caption(events=said, scene=scene)),
            weights=np.array([weights[name] for name in TERMS], dtype=np.float32),
        )

    def _embed(self, caption: Caption) -> Floats:
        text = self.embedder.fit(caption).text
        found = self._vectors.get(text)
        if found is None:
            found = self.embedder.embed([text])[0]
            with self._lock:
                if len(self._vectors) < KEPT_TEXTS:
                    self._vectors[text] = found
        return found
