"""Tasks as files: reading ``manifests/tasks/<name>.yaml``, or one like it, and refusing what is wrong in it."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

from pipeline.errors import ManifestError, closest
from pipeline.tasks import WEIGHT_NAMES, EventType, LossWeights, Task, plain_name
from pipeline.yaml_text import read_yaml

TASK_KEYS = frozenset({"name", "title", "modalities", "default", "severities", "events", "prompt"})
OPTIONAL_TASK_KEYS = frozenset({"also_called"})
EVENT_KEYS = frozenset({"meaning", "modalities", "aliases", "weights"})
SLOTS = ("first", "second", "events", "severities", "default", "form")


def task_names() -> list[str]:
    """Names of the tasks that come with this project."""
    folder = files("manifests") / "tasks"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_task(name: str) -> Task:
    """Read a task by name, or from a path ending in ``.yaml``. Raises ManifestError naming file and key."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ManifestError(f"{name}: no such task file")
        return parse_task(path.read_bytes(), source=name)
    if name not in task_names():
        raise ManifestError(f"no task {name!r}{closest(name, task_names())}; there are: {', '.join(task_names())}")
    return parse_task((files("manifests") / "tasks" / f"{name}.yaml").read_bytes(), source=f"tasks/{name}.yaml")


def parse_task(content: bytes, *, source: str) -> Task:
    """Build a Task from YAML. Raises ManifestError for wrong or missing keys and labels without weights."""
    raw = read_yaml(content, source)
    _check_keys(raw, TASK_KEYS | OPTIONAL_TASK_KEYS, TASK_KEYS, source)
    if not isinstance(raw["events"], dict) or not isinstance(raw["severities"], dict):
        raise ManifestError(f"{source}: 'events' and 'severities' must be mappings")
    for key in ("name", "title", "default", "prompt"):
        _text(raw, key, source)
    for severity in raw["severities"]:
        _text(raw["severities"], severity, f"{source}: severities")
    modalities = _texts(raw, "modalities", source)
    if len(modalities) != 2:
        raise ManifestError(f"{source}: 'modalities' must name two images, got {raw['modalities']!r}")
    events = {label: _event(label, entry, source) for label, entry in raw["events"].items()}
    if raw["default"] not in events:
        raise ManifestError(f"{source}: default label {raw['default']!r} is not among the events")
    _check_aliases(events.values(), source)
    unknown = set(re.findall(r"\{(\w+)\}", raw["prompt"])) - set(SLOTS)
    if unknown:
        raise ManifestError(f"{source}: prompt has unknown slots {sorted(unknown)}; known: {', '.join(SLOTS)}")
    return Task(
        name=raw["name"],
        title=raw["title"],
        modalities=(modalities[0], modalities[1]),
        default=raw["default"],
        severities=raw["severities"],
        events=events,
        also_called=_also_called(raw.get("also_called", {}), f"{source}: also_called"),
        wording=raw["prompt"],
        digest=hashlib.sha256(content).hexdigest(),
    )


def _also_called(entry: object, where: str) -> dict[str, tuple[str, ...]]:
    """Other names by modality, of which none may mean two."""
    entry = _check_keys(entry, entry if isinstance(entry, dict) else (), (), where)
    names = {modality: _texts(entry, modality, where) for modality in entry}
    every = [plain_name(name) for modality, others in names.items() for name in (modality, *others)]
    for name in every:
        if every.count(name) > 1:
            raise ManifestError(f"{where}: {name!r} stands there twice; a name means one modality")
    return names


def _event(label: str, entry: object, source: str) -> EventType:
    where = f"{source}: event {label!r}"
    if plain_name(str(label)) != label:
        raise ManifestError(f"{where}: a label is lower case letters, digits and underscores")
    entry = _check_keys(entry, EVENT_KEYS, {"meaning", "weights"}, where)
    weights = _check_keys(entry["weights"], set(WEIGHT_NAMES), set(WEIGHT_NAMES), f"{where}: weights")
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ManifestError(f"{where}: weight {name} is {value!r}, expected a number of at least 0")
    return EventType(
        label=label,
        meaning=_text(entry, "meaning", where),
        weights=LossWeights(**{name: float(value) for name, value in weights.items()}),
        modalities=_texts(entry, "modalities", where),
        aliases=_texts(entry, "aliases", where),
    )


def _check_aliases(events: Iterable[EventType], source: str) -> None:
    """Labels share an alias only where no image may have both; else it would be chance which is meant."""
    for one, other in combinations(events, 2):
        if one.modalities and other.modalities and not set(one.modalities) & set(other.modalities):
            continue
        for alias in other.aliases:
            if plain_name(alias) in map(plain_name, one.aliases):
                raise ManifestError(
                    f"{source}: {alias!r} is an alias of {one.label!r} and of {other.label!r}, which may be said of one "
                    "image; keep it at one of them"
                )


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    """A text that is not empty."""
    value = entry[key]
    if not isinstance(key, str) or not isinstance(value, str) or not value.strip():
        raise ManifestError(f"{where}: {key} is {value!r}, expected a text (quote it, if it looks like something else)")
    return value


def _texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of texts; an empty one where the key is missing."""
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise ManifestError(f"{where}: {key} is {value!r}, expected a list of texts, such as [one, other]")
    return tuple(value)


def _check_keys(entry: object, allowed: Iterable[str], required: Iterable[str], where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ManifestError(f"{where}: expected a mapping, found {type(entry).__name__}")
    for key in entry:
        if key not in allowed:
            raise ManifestError(f"{where}: unknown key {key!r}{closest(str(key), allowed)}")
    missing = sorted(set(required) - set(entry))
    if missing:
        raise ManifestError(f"{where}: missing {', '.join(missing)}")
    return entry
