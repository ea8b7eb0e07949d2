"""Six small pairs in two folders, for the tests that fuse folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion.folders import Entry, FolderOptions, fuse_folders
from fusion.inference import Fuser

SHAPE = (24, 32)


def draw_pairs(home: Path) -> Path:
    """The pairs a to f in ``home / "vi"`` and ``home / "ir"``; returns ``home``."""
    for index, stem in enumerate("abcdef"):
        random = np.random.default_rng(index)
        for kind, shape in (("vi", (*SHAPE, 3)), ("ir", SHAPE)):
            (home / kind).mkdir(exist_ok=True)
            rows = np.linspace(20, 200, SHAPE[0])[:, None]
            base = rows + random.uniform(-20, 20, shape[:2])
            image = base[..., None] + np.array([0, 9, 40]) if len(shape) == 3 else base
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(home / kind / f"{stem}.png")
    return home


def run(fuser: Fuser, home: Path, **options: Any) -> list[Entry]:
    """Fuse them into ``home / "out"``; the options are those of ``FolderOptions``."""
    return fuse_folders(fuser, home / "vi", home / "ir", home / "out", FolderOptions(**options))
