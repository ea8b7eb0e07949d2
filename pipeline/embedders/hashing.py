"""Text vectors without a model: signed feature hashing.

What it is: a deterministic bag of words, word pairs and character n-grams, hashed into a fixed width (Weinberger et
al., "Feature Hashing for Large Scale Multitask Learning", 2009). Texts that share words lie close. What it is not: a
language model. It knows no synonyms and no grammar; use the ``clip`` embedder for meaning.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.embedders.base import FittedText
from pipeline.events import Caption, caption_text
from pipeline.settings import at_least_one

WIDTH = 512
VERSION = 1  # raised whenever the same text would give another vector
NGRAMS = (3, 4)


@dataclass(frozen=True, kw_only=True)
class HashingSettings:
    """Width of the vectors."""

    width: int = WIDTH

    def __post_init__(self) -> None:
        at_least_one(self, "width")


class HashingEmbedder:
    """Signed hashing of word uni- and bigrams and of character 3- and 4-grams; square-root counts; unit length."""

    name = "hashing"

    def __init__(self, settings: HashingSettings | None = None) -> None:
        self.width = (settings or HashingSettings()).width

    def fingerprint(self) -> dict[str, Any]:
        """Version and width: nothing else decides the vectors."""
        return {"name": self.name, "version": VERSION, "width": self.width}

    def fit(self, caption: Caption) -> FittedText:
        """The whole caption: hashing has no context length, so nothing is dropped. Tokens are words."""
        text = caption_text(caption)
        return FittedText(text=text, tokens=len(_words(text)), dropped=0)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, width) float32 of unit length. A text without any word is all on the first axis, not a zero vector."""
        vectors = np.zeros((len(texts), self.width), dtype=np.float64)
        for row, text in enumerate(texts):
            counts = Counter(_features(text))
            bits = np.fromiter(counts, np.uint64, len(counts))
            sizes = np.array([count**0.5 for count in counts.values()])  # numpy's root differs in a last digit
            places = (bits >> np.uint64(1)) % np.uint64(self.width)
            vectors[row] = np.bincount(places.astype(np.intp), np.where(bits & np.uint64(1), sizes, -sizes), self.width)
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)


def _bits(feature: str) -> int:
    return int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=5_000)  # captions repeat their words; with the pairs of them a few MB at most
def _word(word: str) -> int:
    return _bits(f"w {word}")


@lru_cache(maxsize=20_000)
def _neighbours(first: str, second: str) -> int:
    return _bits(f"p {first} {second}")


@lru_cache(maxsize=5_000)
def _characters(word: str) -> tuple[int, ...]:
    padded = f"<{word}>"
    return tuple(_bits(f"c {padded[i : i + n]}") for n in NGRAMS for i in range(len(padded) - n + 1))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _features(text: str) -> Iterator[int]:
    words = _words(text)
    return chain(map(_word, words), map(_neighbours, words, words[1:]), chain.from_iterable(map(_characters, words)))
