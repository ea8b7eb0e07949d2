"""YAML that says a thing twice, of which the parser would take the last without a word."""

from __future__ import annotations

import pytest

from pipeline.errors import ManifestError
from pipeline.yaml_text import read_yaml


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("steps: 1\nwidth: 2\nsteps: 3\n", "line 3, column 1: .*'steps' is given twice"),
        ("splits:\n  test: {file: a}\n  test: {file: b}\n", "line 3, column 3: .*'test' is given twice"),
        ('{"a": 1, a: 2}', "line 1, column 10: .*'a' is given twice"),
    ],
)
def test_a_key_given_twice_is_refused(text: str, place: str) -> None:
    with pytest.raises(ManifestError, match=f"mine.yaml, {place}"):
        read_yaml(text, "mine.yaml")


def test_one_key_in_two_mappings_and_one_that_is_merged_over_are_fine() -> None:
    assert read_yaml("a: {x: 1}\nb: {x: 2}\n", "mine") == {"a": {"x": 1}, "b": {"x": 2}}
    merged = read_yaml("base: &base {x: 1, y: 2}\nmore: {<<: *base, x: 3}\nagain: *base\n", "mine")
    assert merged == {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}, "again": {"x": 1, "y": 2}}
