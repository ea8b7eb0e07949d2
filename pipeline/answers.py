"""The events and the scene that a model's answer holds: JSON as it was asked for, or the two-line free text of the paper."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.events import UNPARSABLE, Caption, Event, whole
from pipeline.tasks import Task, plain_name

LONGEST_ANSWER = 65_536  # characters looked at; a runaway answer is kept whole in the record but not searched further


def parse_caption(text: str, task: Task, *, finish_reason: str | None = None, tokens: int | None = None) -> Caption:
    """Read a model's answer: the JSON form of the prompt, else the two-line free text of the paper.

    An answer with neither, or with one that can be read only in part, gives ``error_kind="unparsable"`` and keeps the
    raw text; it is never turned into a default.
    """
    text = whole(text)
    looked_at = text[:LONGEST_ANSWER]
    reason = "an empty answer" if not text.strip() else _why_unparsable(text, finish_reason)
    try:
        found = _parse_json(looked_at, task) or _parse_lines(looked_at, task)
    except PartlyReadError as error:
        found, reason = None, str(error)
    if found is None:
        return Caption(raw=text, finish_reason=finish_reason, tokens=tokens, error_kind=UNPARSABLE, error=reason)
    events, scene = found
    return Caption(events=events, scene=scene, raw=text, finish_reason=finish_reason, tokens=tokens)


def _why_unparsable(text: str, finish_reason: str | None) -> str:
    cut = ", and the answer was cut off at its length limit" if finish_reason == "length" else ""
    return f"neither the JSON object asked for nor 'Event Type:' lines{cut}; it begins {' '.join(text.split())[:80]!r}"


Found = tuple[tuple[Event, ...], str]
LENIENT = json.JSONDecoder(strict=False)  # a grammar lets a model put raw control characters into its strings
TYPE_KEYS = ("type", "event_type", "label")  # the prompt asks for the first; captions made elsewhere have the others


class PartlyReadError(ValueError):
    """An answer of which a part can be read; what the rest says of the images would be lost."""


def _parse_json(text: str, task: Task) -> Found | None:
    """The first answer that can be read in full. Raises PartlyReadError where there are only others."""
    start, partly = -1, None
    for _ in range(8):
        start = text.find("{", start + 1)
        if start < 0:
            break
        try:
            value, end = LENIENT.raw_decode(text, start)
        except (ValueError, RecursionError):  # also of a number with thousands of digits
            continue
        try:
            found = _from_mapping(value, task)
        except PartlyReadError as error:
            partly, start = error, end - 1  # what lies inside is no answer of its own
            continue
        if found:
            return found
    if partly:
        raise partly
    return None


def _from_mapping(value: Any, task: Task) -> Found | None:
    if not isinstance(value, Mapping):
        return None
    images = [(task.find_modality(str(key)), said) for key, said in value.items()]
    named = {modality for modality, _ in images if modality}
    if not named:
        return None
    events: list[Event] = []
    for modality in task.modalities:
        if modality not in named:
            expected = " and ".join(repr(name) for name in task.modalities)
            raise PartlyReadError(f"no {modality!r} among the answer's keys {_shown(list(value))}; expected {expected}")
        for entry in [entry for name, said in images if name == modality for entry in _entries(said)]:
            events += [event for event in _events(entry, modality, task) if event not in events]
    if not events:
        expected = f"expected {task.default!r} where nothing is wrong"
        raise PartlyReadError(f"the JSON answer says nothing of either image; {expected}")
    scene = _plain_keys(value).get("scene")
    return tuple(events), whole(scene.strip()) if isinstance(scene, str) else ""


def _plain_keys(value: Any) -> dict[str, Any]:
    return {plain_name(str(key)): entry for key, entry in value.items()} if isinstance(value, Mapping) else {}


def _entries(value: Any) -> list[Any]:
    """What is said of one image: one thing or a list of them, as it is or under ``events``; none where that is empty."""
    named = _plain_keys(value)
    if "events" in named:
        own = [value] if any(key in named for key in TYPE_KEYS) else []
        return own + _as_list(named["events"])
    return _as_list(value)


def _as_list(value: Any) -> list[Any]:
    if value in (None, "", {}):
        return []
    return value if isinstance(value, list) else [value]


def _events(entry: Any, modality: str, task: Task) -> list[Event]:
    """The events of one entry. Raises PartlyReadError for one without a label."""
    named = _plain_keys({"type": entry} if isinstance(entry, str) else entry)
    said = next((named[key] for key in TYPE_KEYS if key in named), None)
    labels = _labels(said, task, modality) if isinstance(said, str) else []
    if not labels:
        expected = "expected a text under 'type' in every event"
        raise PartlyReadError(f"no label in {_shown(entry)}, which the answer holds for {modality!r}; {expected}")
    severity, description = named.get("severity"), named.get("description")
    return [
        Event(
            modality=modality,
            type=label,
            severity=task.find_severity(severity) if isinstance(severity, str) and label != task.default else None,
            description=whole(" ".join(description.split())) if isinstance(description, str) else "",
        )
        for label in labels
    ]


def _shown(value: Any) -> str:
    """``value`` as an error quotes it, whatever its size."""
    return reprlib.repr(value)[:160]


def _label(text: str, task: Task, modality: str | None) -> str:
    """The label that is meant; an unknown one as it was given, in whatever script; empty where there is no word."""
    return task.find_label(text, modality) or whole(re.sub(r"[\W_]+", "_", text.lower()).strip("_")[:80])


FIELD = re.compile(
    r"^[\s>#*_`\-\d.)(]*(event[\s_]*types?|descriptions?|severity|scene|modality)[\s*_`\d()#]*[:：=][\s*_`]*(.*)$",
    re.IGNORECASE,
)


def _parse_lines(text: str, task: Task) -> Found | None:
    """The paper's form: ``Event Type: …`` then ``Description: …``, repeated, under any decoration."""
    blocks: list[dict[str, str]] = []
    over: dict[str, str] = {}  # the modality line that stands over the blocks, where an answer begins with one
    scene = ""
    last: tuple[dict[str, str], str] | None = None
    for line in text.splitlines():
        match = FIELD.match(line)
        if match:
            name = plain_name(match[1]).removesuffix("s")
            value = match[2].strip().strip("*_`").strip()
            if name == "scene":
                scene, last = value, None
                continue
            if name == "modality" and (over or not blocks):
                over, last = {name: value}, None
                continue
            if name == "event_type" or not blocks:
                blocks.append(dict(over))
            blocks[-1][name] = value
            last = blocks[-1], name
        elif last and last[1] == "description" and line.strip() and not line.strip().startswith("```"):
            last[0]["description"] += f" {line.strip().strip('*`').strip()}"  # a description that runs over the line
        else:
            last = last if not line.strip() and last and not last[0].get(last[1]) else None
    events: list[Event] = []
    for block in blocks:
        description = " ".join(block.get("description", "").split())
        stated = task.find_modality(block.get("modality", ""))
        for said_of in [stated] if stated else _named(block, task):
            labels = _labels(block.get("event_type", ""), task, said_of)
            if "event_type" in block and description and not labels:
                before = f"stands before {description[:80]!r}"
                raise PartlyReadError(f"an 'Event Type:' line without a label {before}; give one")
            for label in labels:
                event = Event(
                    modality=stated or _only(label, task) or said_of,
                    type=label,
                    severity=task.find_severity(block.get("severity")) if label != task.default else None,
                    description=description,
                )
                if event not in events:
                    events.append(event)
    return (tuple(events), scene) if events else None


def _labels(text: str, task: Task, modality: str | None) -> list[str]:
    """One label, or several divided by commas, semicolons, slashes, plus signs, ampersands or "and"."""
    known = text.isascii() and task.find_label(text)  # which looks past words in other scripts
    parts = [text] if known else re.split(r"[,;/+&|、，；]|\band\b", text, flags=re.IGNORECASE)
    return list(dict.fromkeys(label for part in parts if (label := _label(part, task, modality))))


def _only(label: str, task: Task) -> str | None:
    """The modality of a label that only one image may have."""
    known = task.events.get(label)
    allowed = [modality for modality in task.modalities if known and modality in known.modalities]
    return allowed[0] if len(allowed) == 1 else None


def _named(block: Mapping[str, str], task: Task) -> Sequence[str | None]:
    """The modalities a block's words say it of: the only one whose image they name, else the only one they name ("grain
    may be visible in the infrared image"), or both where they stand beside each other; else (None,)."""
    words = f"_{plain_name(' '.join(block.values()))}_"
    names = {modality: f"({'|'.join(task.names_of(modality))})" for modality in task.modalities}
    one, other = names.values()
    link = r"(_image)?_and(_in)?(_the)?_"
    if re.search(rf"_both(_the)?_(images|scans)_|_({one}{link}{other}|{other}{link}{one})_images?_", words):
        return task.modalities
    for after in (rf"((_and|_or)(_the)?_({one}|{other}))?_image", "_"):
        named = [modality for modality, name in names.items() if re.search(f"_{name}{after}", words)]
        if named:
            return named if len(named) == 1 else (None,)
    return (None,)
