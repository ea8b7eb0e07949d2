"""From the command line's words to pairs: a data set by name, two folders, or an existing store alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.captioning import Source
from pipeline.errors import InputError
from pipeline.manifest import FOLDERS_SPLIT, folder_manifest, load_manifest
from pipeline.pairs import data_root, find_pairs, pair_folders


def find_source(
    dataset: str | None,
    folders: tuple[Path, Path] | None,
    splits: Sequence[str] | None,
    root: Path | None,
    store: str | None,
) -> Source | None:
    """The pairs that are meant; None when only a store is named, whose images are inside it.

    Raises InputError when not exactly one source is named, and for a split or a root that it has no use for.
    """
    if dataset and folders:
        raise InputError("--dataset and --pairs both say where the pairs are: give one of them")
    if folders:
        if root:
            raise InputError(
                f"--root {root}: it goes with --dataset; --pairs names whole folders: leave one of them out"
            )
        if others := [name for name in splits or () if name != FOLDERS_SPLIT]:
            raise InputError(
                f"--split {others[0]}: the pairs of --pairs are all of the split {FOLDERS_SPLIT}; describe splits in a "
                "YAML file and name it with --dataset FILE.yaml"
            )
        first, second = (Path(os.path.abspath(folder)) for folder in folders)  # noqa: PTH100 (without .., links as they are)
        common = Path(os.path.commonpath([first, second]))
        return Source(manifest=folder_manifest(), pairs=pair_folders(first, second), root=common)
    if dataset:
        manifest = load_manifest(dataset)
        base = data_root(root)
        return Source(manifest=manifest, pairs=find_pairs(manifest, base, splits), root=base)
    if store and splits:
        raise InputError(
            f"--split {splits[0]}: --store alone means all pairs of {store}; leave it out, or name the pairs with --dataset"
        )
    if store:
        return None
    raise InputError(
        "nothing to caption: give --dataset NAME, --pairs VIS_DIR IR_DIR, or --store DIR of an existing one"
    )


def default_store(source: Source | None) -> str:
    """``stores/<data set>``."""
    return f"stores/{source.manifest.name if source else ''}"
