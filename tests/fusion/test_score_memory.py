"""What a benchmark remembers of a fused image: its scores, until anything that decides them is another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusion.score import score
from fusion.score_memory import ScoreMemory

Image = NDArray[np.uint8]
MADE_BY = "weights 1"


def images(seed: int = 0) -> list[Image]:
    random = np.random.default_rng(seed)
    shapes: list[tuple[int, ...]] = [(44, 48, 3), (44, 48), (44, 48)]
    return [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def memory(path: Path, convention: str = "standard", metrics: Sequence[str] = ("EN", "MI")) -> ScoreMemory:
    return ScoreMemory(path, convention, metrics)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The scores of one image, made by ``MADE_BY``, on disk."""
    first, second, fused = images()
    opened = memory(tmp_path / "scores.json")
    opened.sources(first, second)
    assert opened.of(fused, MADE_BY) == score(first, second, fused, names=["EN", "MI"])
    opened.save()
    return tmp_path / "scores.json"


def test_scores_come_back_by_the_image_and_by_what_made_it(kept: Path) -> None:
    first, second, fused = images()
    opened = memory(kept)
    opened.sources(first, second)
    expected = score(first, second, fused, names=["EN", "MI"])
    assert opened.remembered(MADE_BY) == opened.of(fused) == expected and opened.prepared is None
    assert opened.remembered("weights 2") is None and opened.remembered(None) is None
    opened.forget()
    opened.save()
    again = memory(kept)
    again.sources(first, second)
    assert again.remembered(MADE_BY) == expected, "what was asked for is not forgotten"


@pytest.mark.parametrize("other", ["convention", "metrics", "first", "second", "boxes", "code"])
def test_nothing_comes_back_for_anything_else(kept: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    first, second, fused = images()
    convention, names = ("cddfuse" if other == "convention" else "standard"), ["EN", "MI"]
    if other == "metrics":
        names = ["EN", "SD"]
    if other in ("first", "second"):
        changed = first if other == "first" else second
        changed[3, 4] ^= 1
    if other == "code":
        monkeypatch.setattr("fusion.score_memory.code_digest", lambda: "another version of the metrics")
    boxes = torch.tensor([[2.0, 2, 20, 20]]) if other == "boxes" else None
    opened = memory(kept, convention, names)
    opened.sources(first, second, boxes=boxes)
    assert opened.remembered(MADE_BY) is None
    found = opened.of(fused)
    assert opened.prepared is not None, "scored anew"
    assert {name: found[name] for name in names} == score(first, second, fused, convention, names)
    assert ("Target-level" in found) == (other == "boxes")


def test_another_image_of_the_same_method_is_scored_anew(kept: Path) -> None:
    first, second, fused = images()
    opened = memory(kept)
    opened.sources(first, second)
    fused[0, 0] ^= 1
    assert opened.of(fused) == score(first, second, fused, names=["EN", "MI"])
    assert opened.prepared is not None
