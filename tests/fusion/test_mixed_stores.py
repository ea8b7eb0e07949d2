"""Several stores trained on together: one cache, and shares of the stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.reader import Cache, Pairs, open_pairs
from fusion.recipe import Recipe, load_recipe
from fusion.stream import StreamReader
from pipeline.store import Store


def recipe(*settings: str) -> Recipe:
    return load_recipe("tiny", "teacher", ["crop=48", "batch_size=2", "validation_share=0", *settings])


@pytest.fixture
def mixed(new_store: Callable[..., Path], store: Path, tmp_path: Path) -> list[Pairs]:
    """Two stores with one cache. Both number their pairs alike, as data sets often do; the second's are 64 x 96 pixels."""
    shared = Cache(2**30)
    places = (store, new_store(tmp_path, pairs=4, size=(64, 96)))
    return [open_pairs(Store.open(place), recipe(), shared, number)[0] for number, place in enumerate(places)]


def test_stores_that_share_a_cache_keep_their_pictures_apart(mixed: list[Pairs]) -> None:
    assert {row.key for row in mixed[1].rows} <= {row.key for row in mixed[0].rows}
    sizes = [{pairs.pictures(index)[1].shape for index in range(len(pairs))} for pairs in mixed]
    assert sizes == [{(72, 88)}, {(64, 96)}]


@pytest.mark.parametrize(("shares", "expected"), [("[]", 8 / 12), ("[1, 9]", 0.1), ("[3, 1]", 0.75)])
def test_a_stream_draws_from_each_store_by_its_share(mixed: list[Pairs], shares: str, expected: float) -> None:
    """Chosen pair by pair, so on average: 400 pairs are within four standard deviations, 0.1 at most."""
    steps = StreamReader(mixed, recipe(f"shares={shares}", "batch_size=20")).steps(0, 20)
    drawn = Counter(int(number) for parts in steps for batch in parts for number in batch.store)
    assert drawn[0] / drawn.total() == pytest.approx(expected, abs=0.1)
    assert drawn.total() == 400
