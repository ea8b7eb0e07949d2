"""What every captioner is: something that says, for a batch of pairs, what degrades each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.events import Caption
from pipeline.images import Picture


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """One decoded pair. ``first`` is the visible, CT, PET or SPECT image, ``second`` the infrared or MRI one."""

    key: str
    pair_id: str
    first: Picture
    second: Picture
    stem: str = ""  # of the pair's files, where the key is not it


class Captioner(Protocol):
    """A back end. It is made once a worker and then given batches.

    A captioner is built from ``(task, settings)``; the names of the two images are ``task.modalities``. ``batch`` is how
    many pairs it wants at once (0: a whole shard).
    """

    name: str
    batch: int

    def fingerprint(self) -> dict[str, Any]:
        """All that decides the captions but the task: model, revision, engine, precision, pixel budget, sampling."""
        ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request, in order.

        A pair that cannot be captioned is a Caption with an ``error_kind``. An exception stops the run: the shard
        in hand is not committed, those before it are.
        """
        ...

    def close(self) -> None:
        """Let go of devices and connections."""
        ...
