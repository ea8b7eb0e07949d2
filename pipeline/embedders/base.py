"""What every embedder is: it fits a caption into its context and turns texts into unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.events import Caption


@dataclass(frozen=True, kw_only=True)
class FittedText:
    """The text that is embedded, its length in the embedder's tokens, and how many events had to be left out."""

    text: str
    tokens: int
    dropped: int


class Embedder(Protocol):
    """A text encoder of fixed ``width``."""

    name: str
    width: int

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the vectors: model, its weights' digest, precision, width."""
        ...

    def fit(self, caption: Caption) -> FittedText:
        """The most severe events first, descriptions as long as they fit."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32, each row of unit length."""
        ...
