"""The hashing embedder is deterministic, of unit length, and follows the words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.embedders import make_embedder
from pipeline.embedders.hashing import HashingEmbedder
from pipeline.errors import InputError
from pipeline.events import Caption, Event

EMBEDDER = HashingEmbedder()
FROZEN_AXES = [1, 18, 37, 43, 46, 47]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_vectors_are_of_unit_length_and_repeatable(texts: list[str]) -> None:
    vectors = EMBEDDER.embed(texts)
    assert vectors.shape == (len(texts), 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors, HashingEmbedder().embed(texts))
    np.testing.assert_array_equal(vectors[-1:], EMBEDDER.embed(texts[-1:]))


def test_the_vector_is_frozen() -> None:
    """Known bits: a change here is a change of every store, and must raise the version in the fingerprint."""
    vector = EMBEDDER.embed(["severe low light"])[0]
    assert np.flatnonzero(np.abs(vector) > 1e-6)[:6].tolist() == FROZEN_AXES
    assert EMBEDDER.fingerprint() == {"name": "hashing", "version": 1, "width": 512}


def test_like_texts_lie_closer_than_unlike_ones() -> None:
    dark, darker, stripes = EMBEDDER.embed(
        ["Severe low light in the visible image", "Slight low light in the visible image", "Stripes across the scan"]
    )
    assert dark @ darker > 0.6 > 0.3 > dark @ stripes


def test_the_embedding_follows_the_description() -> None:
    def text(description: str) -> str:
        event = Event(modality="visible", type="low_light", severity="severe", description=description)
        return EMBEDDER.fit(Caption(events=(event,), scene="A road")).text

    first, second = EMBEDDER.embed([text("the road is black"), text("the sky is black")])
    assert 0.5 < first @ second < 0.999


def test_settings_and_names_are_checked() -> None:
    assert make_embedder("hashing", {"width": "64"}).width == 64
    with pytest.raises(InputError, match="did you mean 'width'"):
        make_embedder("hashing", {"widht": "64"})
    with pytest.raises(InputError, match="whole number"):
        make_embedder("hashing", {"width": "wide"})
    with pytest.raises(InputError, match="did you mean 'hashing'"):
        make_embedder("hashin", {})
