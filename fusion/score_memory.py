"""Scores of a benchmark remembered between runs: by content, and by method where that alone decides the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from torch import Tensor

from fusion.methods import Pixels
from fusion.metrics.triples import Sources
from fusion.score import Scores, as_batch, prepare, score_fused
from fusion.score_cache import code_digest
from fusion.targets import score_targets
from pipeline.atomic import write_text
from pipeline.console import note


class ScoreMemory:
    """Scores by content: SHA-256 over both sources, the fused image, the convention and the code of the metrics."""

    def __init__(self, path: Path, convention: str, metrics: Sequence[str]) -> None:
        self.path = path
        self.convention = convention
        self.metrics = metrics
        self.known: dict[str, Scores] = {}
        if path.is_file():
            self.known = _read(path)
        self.fresh: dict[str, Scores] = {}

    def sources(self, first: Pixels, second: Pixels, device: str = "cpu", boxes: Tensor | None = None) -> None:
        """The pair that the next ``of`` calls are about, with its targets (K, 4) if they are scored."""
        self.pair = (first, second, device)
        self.boxes = boxes
        self.lock = Lock()
        self.prepared: Sources | None = None
        placed = b"" if boxes is None else boxes.numpy().tobytes() + b"boxes"
        digest = hashlib.sha256(first.tobytes() + second.tobytes() + placed).hexdigest()
        self.seed = f"{digest} {self.convention} {' '.join(self.metrics)} {code_digest()}"

    def remembered(self, identity: str | None) -> Scores | None:
        """The scores of the image that a method of this ``identity`` makes of the pair, if it was scored before."""
        key = self._key(identity)
        if key is not None and key in self.known:
            self.fresh[key] = self.known[key]
        return self.known.get(key) if key else None

    def of(self, fused: Pixels, identity: str | None = None) -> Scores:
        """Scores of one fused image, made by a method of ``identity``; several threads may ask at once."""
        key = hashlib.sha256(f"{self.seed} {fused.shape}".encode() + fused.tobytes()).hexdigest()
        if key not in self.known:
            with self.lock:
                if self.prepared is None:
                    first, second, device = self.pair
                    self.prepared = prepare(first, second, self.convention, device)
            found = score_fused(self.prepared, fused, self.convention, self.metrics)
            if self.boxes is not None:
                triple = self.prepared.with_fused(as_batch(fused, "fused image", self.pair[2]))
                found |= score_targets(triple, self.boxes)
            self.known[key] = found
        by_method = self._key(identity)
        for name in (key, by_method) if by_method else (key,):
            self.fresh[name] = self.known[name] = self.known[key]
        return self.fresh[key]

    def forget(self) -> None:
        """Drop what this run did not ask for; not for one that is interrupted or takes a part of the pairs."""
        self.known = self.fresh

    def save(self) -> None:
        """Write what is known to the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps(self.known, allow_nan=False))

    def _key(self, identity: str | None) -> str | None:
        return hashlib.sha256(f"{self.seed} {identity}".encode()).hexdigest() if identity else None


def _read(path: Path) -> dict[str, Scores]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {key: dict(scores) for key, scores in found.items()}
        if all(value is None or isinstance(value, float) for scores in known.values() for value in scores.values()):
            return known
        raise ValueError("no score")
    except (ValueError, AttributeError, TypeError):
        note(f"{path}: damaged, so everything is scored again")
        return {}
