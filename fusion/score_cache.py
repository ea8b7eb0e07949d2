"""Scores remembered by content: the same three files under the same code and convention are never scored twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from fusion.score import Scores
from pipeline.atomic import write_text


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/fusioncli/scores``, else ``~/.cache/fusioncli/scores``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fusioncli" / "scores"


@cache
def code_digest() -> str:
    """Digest of the metrics' source and fitted models: another version computes again."""
    digest = hashlib.sha256()
    files = (Path(__file__).parent / "metrics").rglob("*")
    for path in sorted(path for path in files if path.suffix in (".py", ".json")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class ScoreCache:
    """One small JSON file per triple; a damaged one counts as absent, a folder that cannot be written is left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writable = True

    def key(self, files: Iterable[bytes], convention: str) -> str:
        """The name of a triple's scores, from the content of its files."""
        parts = [hashlib.sha256(content).hexdigest() for content in files]
        return hashlib.sha256("\n".join([code_digest(), convention, *parts]).encode()).hexdigest()

    def load(self, key: str) -> Scores:
        """The scores remembered for a triple, perhaps none."""
        try:
            found = json.loads(self._path(key).read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(name): value for name, value in found.items() if value is None or isinstance(value, float)}

    def save(self, key: str, scores: Scores) -> None:
        """Remember the scores of a triple."""
        if not self.writable:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(scores))
        except OSError:
            self.writable = False  # a full or read-only cache must not stop the scoring

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.json"
