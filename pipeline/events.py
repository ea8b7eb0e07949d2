"""What a captioner says of a pair: events, a scene sentence, and the parsers that read them out of a model's answer."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.tasks import Task, plain_name

UNPARSABLE = "unparsable"
LONGEST_ANSWER = 65_536  # characters looked at; a runaway answer is kept whole in the record but not searched further
SEVERITIES = ("slight", "moderate", "severe")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing said of one image of a pair.

    ``modality`` and ``severity`` are None where the source does not state them (the paper's two-line form states
    neither); "clean" has no severity. ``type`` is a label of the task, or an unknown label as it was given.
    """

    modality: str | None
    type: str
    severity: str | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A captioner's answer for one pair: events and scene, or an ``error_kind`` with its message; ``raw`` always."""

    events: tuple[Event, ...] = ()
    scene: str = ""
    raw: str = ""
    finish_reason: str | None = None
    error_kind: str | None = None
    error: str | None = None
    tokens: int | None = None


def by_severity(events: Sequence[Event]) -> list[Event]:
    """Most severe first, otherwise in the order given; what has no severity comes last."""
    return sorted(events, key=lambda event: -SEVERITIES.index(event.severity) if event.severity in SEVERITIES else 1)


def caption_text(caption: Caption) -> str:
    """The caption as prose: the scene, then each event with what it is said of."""
    parts = [sentence(caption.scene), *(event_sentence(event) for event in by_severity(caption.events))]
    return " ".join(part for part in parts if part)


def failed_caption(kind: str, error: str, raw: str = "") -> Caption:
    """A pair that got no caption: what kind of failure, and its message."""
    return Caption(error_kind=kind, error=whole(" ".join(error.split())[:2000]), raw=whole(raw))


def whole(text: str) -> str:
    """``text`` as UTF-8 can hold it: half a character, of an answer that was cut inside an escape, becomes ``?``."""
    return text.encode("utf-8", "replace").decode()


def event_sentence(event: Event) -> str:
    """``Severe low light in the visible image: the road sinks into shadow.``"""
    name = event.type.replace("_", " ")
    words = [event.severity or "", name, f"in the {event.modality} image" if event.modality else ""]
    head = " ".join(word for word in words if word)
    head = head[:1].upper() + head[1:]
    return sentence(f"{head}: {event.description}" if event.description else head)


def sentence(text: str) -> str:
    """``text`` trimmed, on one line, with a full stop."""
    text = " ".join(text.split())
    return text if not text or text[-1] in ".!?" else f"{text}."


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
    named = _plain_keys(value)
    if not any(plain_name(modality) in named for modality in task.modalities):
        return None
    events: list[Event] = []
    for modality in task.modalities:
        if plain_name(modality) not in named:
            expected = " and ".join(repr(name) for name in task.modalities)
            raise PartlyReadError(f"no {modality!r} among the answer's keys {_shown(list(value))}; expected {expected}")
        for entry in _entries(named[plain_name(modality)]):
            events += [event for event in _events(entry, modality, task) if event not in events]
    if not events:
        expected = f"expected {task.default!r} where nothing is wrong"
        raise PartlyReadError(f"the JSON answer says nothing of either image; {expected}")
    scene = named.get("scene")
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
        stated, named = _stated(block, task), _named(block, task)
        labels = _labels(block.get("event_type", ""), task, stated or named)
        if "event_type" in block and description and not labels:
            raise PartlyReadError(f"an 'Event Type:' line without a label stands before {description[:80]!r}; give one")
        for label in labels:
            event = Event(
                modality=stated or _only(label, task) or named,
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


def _stated(block: Mapping[str, str], task: Task) -> str | None:
    """The modality of a block's own ``Modality:`` line."""
    said = plain_name(block.get("modality", ""))
    return next((modality for modality in task.modalities if plain_name(modality) == said), None)


def _only(label: str, task: Task) -> str | None:
    """The modality of a label that only one image may have."""
    known = task.events.get(label)
    allowed = [modality for modality in task.modalities if known and modality in known.modalities]
    return allowed[0] if len(allowed) == 1 else None


def _named(block: Mapping[str, str], task: Task) -> str | None:
    """The only modality whose image the words of a block name, else the only one they name: grain may be "visible"."""
    words = f"_{plain_name(' '.join(block.values()))}_"
    names = {modality: plain_name(modality) for modality in task.modalities}
    beside = rf"(_and|_or)?(_the)?_({'|'.join(names.values())})"  # the visible and the infrared image
    for after in (rf"({beside})?_image", "_"):
        named = [modality for modality, name in names.items() if re.search(f"_{name}{after}", words)]
        if named:
            return named[0] if len(named) == 1 else None
    return None
