"""Making small stores in tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.captioning import CaptionOptions, Summary, caption_pairs
from pipeline.sources import find_source


def caption(store: Path | str, folders: tuple[Path, Path] | None, **options: Any) -> Summary:
    """Caption with the scripted captioner; options that begin with ``do_`` are its settings."""
    settings = {key.removeprefix("do_"): str(options.pop(key)) for key in list(options) if key.startswith("do_")}
    defaults: dict[str, Any] = {"captioner": "scripted", "embedder": "hashing", "workers": 1, "max_failed": "100%"}
    source = find_source(None, folders, None, None, str(store))
    asked = CaptionOptions(store=str(store), captioner_settings=settings, **{**defaults, **options})
    return caption_pairs(asked, source)


def contents(store: Path) -> dict[str, str]:
    """SHA-256 of every file but the logs."""
    files = [path for path in store.rglob("*") if path.is_file() and "logs" not in path.relative_to(store).parts]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
