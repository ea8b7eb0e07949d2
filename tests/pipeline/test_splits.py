"""A pair belongs to one split: what is trained on is not tested on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.captioning import CaptionOptions, Source, Summary, caption_pairs
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


FOLDERS = SPLITS.replace("vi, infrared: ir", "a/vi, infrared: a/ir").replace(
    "./ir, visible: vi/", "b/ir, visible: b/vi"
)


def plan(home: Path, splits: list[str] | None = None) -> Summary:
    manifest = parse_manifest("mine", FOLDERS % ("stems: '*'", "stems: '*'"))
    options = CaptionOptions(store=str(home / "s"), captioner="scripted", embedder="hashing", plan_only=True)
    return caption_pairs(options, Source(manifest=manifest, pairs=find_pairs(manifest, home, splits), root=home))


def test_a_pair_of_train_that_is_in_another_split_under_another_name_is_refused(
    tmp_path: Path, draw_pairs: Any
) -> None:
    """Byte for byte, whatever its files are called. A pair that is twice in one split is the business of `data check`."""
    draw_pairs(4, folder="a")
    draw_pairs(2, folder="b")
    for kind in ("vi", "ir"):
        (tmp_path / "b" / kind / "p0000.png").rename(tmp_path / "b" / kind / "other.png")
        shutil.copy(tmp_path / "a" / kind / "p0003.png", tmp_path / "a" / kind / "copy.png")
    with pytest.raises(PairingError, match=r"a/vi/p0000.png in train is .*b/vi/other.png in test") as caught:
        plan(tmp_path)
    assert "b/vi/p0001.png in test" in str(caught.value)
    assert "p0003" not in str(caught.value)
    assert not (tmp_path / "s").exists()
    for kind in ("vi", "ir"):
        (tmp_path / "b" / kind / "other.png").unlink()
    shutil.copy(tmp_path / "a/vi/p0000.png", tmp_path / "b/vi/p0001.png")  # two images of train, but no pair of it
    plan(tmp_path)
