"""Captions made elsewhere: one text or JSON file a pair, found by the pair's key or stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.digests import files_digest
from pipeline.errors import InputError
from pipeline.events import Caption, failed_caption
from pipeline.image_folder import file_stem, left_by_a_system
from pipeline.pairs import safe_key
from pipeline.plan import PlanRow
from pipeline.tasks import Task

SUFFIXES = (".json", ".txt", ".md")


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Where the captions lie: a folder of ``<stem>.txt`` or ``<stem>.json`` files, or of ``<key>`` ones."""

    folder: Path

    def __post_init__(self) -> None:
        """Raises InputError: no such folder."""
        if not self.folder.is_dir():
            raise InputError(f"--from {self.folder}: no such folder")


class ImportedCaptioner:
    """Reads files; each may hold the JSON answer or the paper's two-line form."""

    name = "import"
    batch = 64

    def __init__(self, task: Task, settings: ImportSettings) -> None:
        """Raises InputError: no caption file in the folder, two files for one pair."""
        self.task = task
        self.files: dict[str, Path] = {}
        for path in sorted(settings.folder.iterdir()):
            if path.suffix.lower() in SUFFIXES and path.is_file() and not left_by_a_system(path.name):
                stem = file_stem(path)
                if stem in self.files:
                    raise InputError(f"{path} and {self.files[stem]}: two captions for one pair; keep one")
                self.files[stem] = path
        if not self.files:
            raise InputError(f"--from {settings.folder}: no {', '.join(SUFFIXES)} file in it")

    def fingerprint(self) -> dict[str, Any]:
        """The digest of every caption file."""
        return {"name": self.name, "files": len(self.files), "content": files_digest(self.files.values())}

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request; a pair without a file is a failure of kind ``missing``."""
        return [self._of(request.key, request.stem) for request in requests]

    def still_says(self, row: PlanRow, raw: str) -> bool:
        """Whether the file of a planned pair says what was imported of it."""
        caption = self._of(row.key, file_stem(Path(row.first)))
        return caption.error_kind is None and caption.raw == raw

    def close(self) -> None:
        """Nothing to let go."""

    def _of(self, key: str, stem: str) -> Caption:
        path = self.files.get(key)
        if path is None and safe_key(stem) == key:  # else the stem is that of two pairs
            path = self.files.get(stem)
        if path is None:
            return failed_caption("missing", f"no caption file for {key}")
        try:
            return parse_caption(path.read_text(encoding="utf-8-sig"), self.task)
        except UnicodeDecodeError as error:
            return failed_caption("unparsable", f"{path.name}: not UTF-8 text ({error})")
