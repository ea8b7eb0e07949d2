"""What a captioner says of a pair: events and a scene sentence, as records and as prose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.words import printable

UNPARSABLE = "unparsable"
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
    return Caption(error_kind=kind, error=whole(printable(" ".join(error.split()))[:2000]), raw=whole(raw))


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
