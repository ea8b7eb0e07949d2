"""What a study of the text has found so far, kept beside its table: a study of hours that is killed goes on pair by pair."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fusion.score_cache import code_digest
from fusion.text_findings import Condition, Finding
from fusion.text_study import Arm, Case
from pipeline.atomic import write_text
from pipeline.store import Store


class TextMemory:
    """``found``: the findings of pairs that are done, by key. ``path`` None: nothing is kept.

    A file of another study, or a damaged one, counts as not there.
    """

    def __init__(self, path: Path | None, study: str) -> None:
        self.path, self.study = path, study
        self.found: dict[str, list[Finding]] = _read(path, study) if path is not None and path.is_file() else {}

    def add(self, key: str, findings: Sequence[Finding]) -> None:
        """Keep the findings of one pair, for good when this returns."""
        self.found[key] = list(findings)
        if self.path is not None:
            found = {key: [asdict(finding) for finding in findings] for key, findings in self.found.items()}
            write_text(self.path, json.dumps({"study": self.study, "found": found}, allow_nan=False))

    def forget(self) -> None:
        """Remove the file: the study is done and its table written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def beside(out: Path | None) -> Path | None:
    """Where a study that writes ``out`` keeps what it has found so far."""
    return out and out.with_name(f"{out.name}.unfinished")


def study_digest(store: Store, prior: str, arms: Sequence[Arm], every: Sequence[Case]) -> str:
    """Digest of all that decides the findings: pairs and texts, arms, what is drawn, the code that scores."""
    told = [(case.row.pair_id, asdict(case.condition), case.number) for case in every]
    networks = [(arm.name, arm.method.identity, arm.text) for arm in arms]
    what = [version("fusioncli"), code_digest(), store.digest(), prior, networks, told]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _read(path: Path, study: str) -> dict[str, list[Finding]]:
    try:
        kept = json.loads(path.read_bytes())
        if kept["study"] != study:
            return {}
        return {key: [_finding(entry) for entry in entries] for key, entries in kept["found"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _finding(entry: Any) -> Finding:
    scores = {name: None if value is None else float(value) for name, value in entry["scores"].items()}
    return Finding(arm=entry["arm"], key=entry["key"], condition=Condition(**entry["condition"]), scores=scores)
