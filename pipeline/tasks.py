"""A task: the event types a pair may show, and what follows from them (prompt, answer schema, loss weights).

Everything comes from one file, ``manifests/tasks/<name>.yaml``, so that the labels the model is asked for, the labels
the parser knows and the labels that have weights cannot drift apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property

DESCRIPTION_LENGTH = 160  # characters; an upper bound for the constrained answer, the prompt asks for fifteen words
SCENE_LENGTH = 240
EVENTS_PER_MODALITY = 4
NO_SEVERITY = "none"  # what a constrained answer says beside the default label


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the five terms of the fusion loss; the loss is linear in them."""

    intensity: float
    consistency: float
    gradient: float
    ssim: float
    colour: float

    def as_dict(self) -> dict[str, float]:
        """By term, in the fixed order intensity, consistency, gradient, ssim, colour."""
        return {name: getattr(self, name) for name in WEIGHT_NAMES}


WEIGHT_NAMES = tuple(field.name for field in fields(LossWeights))


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One label of the vocabulary. ``modalities`` empty: it may be said of either image.

    Labels of different images may share an alias.
    """

    label: str
    meaning: str
    weights: LossWeights
    modalities: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """Vocabulary, wording and weights of one kind of fusion.

    ``events`` by label, ``default`` the label for nothing wrong, ``severities`` from slight to severe with their meanings,
    ``also_called`` other names of modalities, ``wording`` the prompt with its slots; ``digest`` is the SHA-256 of the file it came from.
    """

    name: str
    title: str
    modalities: tuple[str, str]
    default: str
    severities: Mapping[str, str]
    events: Mapping[str, EventType]
    also_called: Mapping[str, tuple[str, ...]]
    wording: str
    digest: str

    def labels(self, modality: str | None = None) -> tuple[str, ...]:
        """Labels that may be said of ``modality`` (any, for None), in the file's order."""
        return tuple(
            label
            for label, event in self.events.items()
            if modality is None or not event.modalities or modality in event.modalities
        )

    def between(self, first: str, second: str) -> Task:
        """This task for images of these modalities ("pet" and "mri", say), which prompt, schema and labels then name."""
        new = dict(zip(self.modalities, (first, second), strict=True))
        events = {k: replace(e, modalities=tuple(new.get(n, n) for n in e.modalities)) for k, e in self.events.items()}
        return replace(self, modalities=(first, second), events=events)

    def prompt(self) -> str:
        """The instruction that goes with both images."""
        first, second = self.modalities
        item = '{"type": "...", "severity": "...", "description": "..."}'
        values = {
            "first": first,
            "second": second,
            "events": "\n".join(self._line(event) for event in self.events.values()),
            "severities": "\n".join(f"- {name}: {meaning}" for name, meaning in self.severities.items()),
            "default": self.default,
            "form": f'{{"scene": "...", "{first}": [{item}], "{second}": [{item}]}}',
        }
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], self.wording).strip()

    def schema(self) -> dict[str, object]:
        """JSON schema of the answer: a scene sentence, then per modality one to four events.

        No ``pattern``: grammar compilers refuse it together with ``maxLength``.
        """
        properties: dict[str, object] = {"scene": {"type": "string", "minLength": 1, "maxLength": SCENE_LENGTH}}
        for name in self.modalities:
            properties[name] = {
                "type": "array",
                "minItems": 1,
                "maxItems": EVENTS_PER_MODALITY,
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"type": "string", "enum": list(self.labels(name))},
                        "severity": {"type": "string", "enum": [NO_SEVERITY, *self.severities]},
                        "description": {"type": "string", "maxLength": DESCRIPTION_LENGTH},
                    },
                    "required": ["type", "severity", "description"],
                    "additionalProperties": False,
                },
            }
        return {
            "type": "object",
            "properties": properties,
            "required": ["scene", *self.modalities],
            "additionalProperties": False,
        }

    def find_label(self, text: str, modality: str | None = None) -> str | None:
        """The label that ``text`` means (any case, spaces or hyphens, or an alias); None if it is not known.

        Of labels that share an alias it is the one that may be said of ``modality``, or the last where that is None.
        """
        meant = self._names.get(plain_name(text), ())
        allowed = [label for label in meant if modality in self.events[label].modalities]
        return next(reversed(allowed or meant), None)

    def names_of(self, modality: str) -> tuple[str, ...]:
        """What an answer may call ``modality``, as plain names, its own first."""
        return tuple(map(plain_name, (modality, *self.also_called.get(modality, ()))))

    def find_modality(self, text: str) -> str | None:
        """The modality of this task that ``text`` names, with or without "image" behind it; None for any other word."""
        word = plain_name(text).removesuffix("_image")
        return next((modality for modality in self.modalities if word in self.names_of(modality)), None)

    def find_severity(self, text: str | None) -> str | None:
        """The severity that ``text`` means, or None where none or an unknown one is given."""
        word = plain_name(text or "")
        return word if word in self.severities else None

    def weights_for(self, labels: Iterable[str]) -> LossWeights:
        """Mean of the weights of the degradations among ``labels``.

        The default's weights stand where no known degradation is named: "clean" beside a degradation does not dilute
        it, and a label the file does not know has no weights (it stays in the record and is counted there).
        """
        known = [self.events[label].weights for label in labels if label in self.events and label != self.default]
        if not known:
            return self.events[self.default].weights
        return LossWeights(**{name: sum(getattr(w, name) for w in known) / len(known) for name in WEIGHT_NAMES})

    def fingerprint(self) -> dict[str, str]:
        """What of this task decides a prior's content, the telling fields before the digest."""
        weights = {label: list(event.weights.as_dict().values()) for label, event in self.events.items()}
        return {
            "name": self.name,
            "vocabulary": ", ".join(self.events),
            "weights": json.dumps(weights),
            "digest": self.digest,
        }

    def _line(self, event: EventType) -> str:
        only = f" (only the {' or '.join(event.modalities)} image)" if event.modalities else ""
        return f"- {event.label}: {event.meaning}{only}"

    @cached_property
    def _names(self) -> dict[str, tuple[str, ...]]:
        """The labels that a plain name may mean; the name of a label means that label alone."""
        names: dict[str, tuple[str, ...]] = {}
        for label, event in self.events.items():
            for alias in map(plain_name, event.aliases):
                names[alias] = (*names.get(alias, ()), label)
        return names | {label: (label,) for label in self.events}


def plain_name(text: str) -> str:
    """Lower case, with runs of anything but letters and digits as one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
