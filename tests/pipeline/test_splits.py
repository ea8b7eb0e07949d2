"""A pair belongs to one split: what is trained on is not tested on."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pipeline.errors import PairingError
from pipeline.manifest import members_digest, parse_manifest
from pipeline.pairs import find_pairs

SPLITS = """
title: two cameras
folder: .
task: ivf
modalities: [{name: visible, channels: 3}, {name: infrared, channels: 1}]
splits:
  train: {folders: {visible: vi, infrared: ir}, %s}
  test: {folders: {infrared: ./ir, visible: vi/}, %s}
homepage: ''
terms: ''
citation: ''
"""


@pytest.mark.parametrize("splits", [None, ["train"], ["test"]])
def test_a_pair_in_two_splits_of_the_same_folders_is_refused(draw_pairs: Any, splits: list[str] | None) -> None:
    """Else it would be trained on and tested on. Whichever split is asked for: the manifest is what is wrong."""
    home = draw_pairs(3)[0].parent
    apart = parse_manifest("mine", SPLITS % ("stems: 'p000[01]'", "stems: 'p0002'"))
    assert len(find_pairs(apart, home)) == 3
    patterns = parse_manifest("mine", SPLITS % ("stems: 'p000[01]'", "stems: '*'"))
    with pytest.raises(
        PairingError, match="mine has pairs in two splits: p0000 in train and test, p0001 in train and test; "
    ):
        find_pairs(patterns, home, splits)
    members = {"train": ["p0000", "p0001"], "test": ["p0001", "p0002"]}
    text = yaml.safe_dump({**members, "sha256": members_digest(members)})
    listed = parse_manifest("mine", SPLITS % ("file: parts.yaml", "file: parts.yaml"), lambda _: text)
    with pytest.raises(PairingError, match="two splits: p0001 in train and test; leave each in one"):
        find_pairs(listed, home, splits)
