"""What a data set is: its modalities, task, splits, where they lie, and what its owners ask for."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import ManifestError, closest
from pipeline.task_file import load_task
from pipeline.yaml_text import read_yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # of data sets, stores and priors: also names of folders
KNOWN_KEYS = frozenset({"title", "folder", "task", "modalities", "splits", "homepage", "terms", "citation"})
FOLDERS_SPLIT = "train"  # the split of pairs that two folders hold and nobody described
SPLIT_KEYS = frozenset({"folders", "file", "stems", "expected"})


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One kind of image: its name, and the channels a network sees (3 or 1)."""

    name: str
    channels: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where the images of a split lie, relative to the data set's folder, and which stems belong to it.

    ``members`` lists them, ``stems`` is a pattern such as ``train-*``; with neither, all files of the folders do.
    """

    name: str
    folders: dict[str, str]
    members: frozenset[str] | None = None
    stems: str | None = None
    expected: int | None = None
    file: str | None = None  # the split file that lists the members, and the sha256 over its stems
    digest: str | None = None


def in_split(stem: str, split: Split) -> bool:
    """Whether a file of this stem belongs to the split."""
    if split.members is not None:
        return stem in split.members
    return split.stems is None or fnmatchcase(stem, split.stems)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One data set. ``modalities`` are A (visible, CT, PET, SPECT) and B (infrared, MRI), in this order.

    ``folder`` is relative to the data root, ``task`` names one of ``pipeline.tasks``; ``digest`` is the SHA-256 of
    what decides the pairs: all but title, homepage, terms, citation and comments.
    """

    name: str
    title: str
    folder: str
    task: str
    modalities: tuple[Modality, Modality]
    splits: dict[str, Split]
    homepage: str
    terms: str
    citation: str
    digest: str

    @property
    def names(self) -> tuple[str, str]:
        """The names of the two modalities."""
        return self.modalities[0].name, self.modalities[1].name

    @property
    def channels(self) -> tuple[int, int]:
        """How many channels of the two modalities a network sees: 3 or 1."""
        return self.modalities[0].channels, self.modalities[1].channels

    def as_dict(self) -> dict[str, object]:
        """For JSON: all that the manifest says, members as a count."""
        return {
            "name": self.name,
            "title": self.title,
            "folder": self.folder,
            "task": self.task,
            "modalities": [{"name": entry.name, "channels": entry.channels} for entry in self.modalities],
            "splits": {
                split.name: {"folders": split.folders, "expected": split.expected, "file": split.file}
                for split in self.splits.values()
            },
            "homepage": self.homepage,
            "terms": self.terms,
            "citation": self.citation,
            "digest": self.digest,
        }


def manifest_names() -> list[str]:
    """The data sets that have a manifest, sorted."""
    folder = resources.files("manifests") / "datasets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_manifest(name: str) -> Manifest:
    """Read the manifest called ``name``, or one at a path that ends in ``.yaml``, whose data set is called as the file is.

    Raises ManifestError for an unknown name, a wrong file, or a file called like a data set that is known.
    """
    if name.endswith((".yaml", ".yml")):
        return _own_manifest(Path(name))
    if name not in manifest_names():
        raise ManifestError(
            f"no data set called {name!r}{closest(name, manifest_names())}; `fusioncli data list` shows all, and "
            "a path that ends in .yaml describes one of your own"
        )
    text = (resources.files("manifests") / "datasets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_manifest(name, text)


def _own_manifest(path: Path) -> Manifest:
    name = path.stem
    if not NAME.fullmatch(name):
        raise ManifestError(f"{path}: the file's name is the data set's: letters, digits, _ and - only, at most 64")
    if name in manifest_names():
        raise ManifestError(f"{path}: {name} is a data set that is known already; give the file another name")

    def read(file: str | Path) -> str:
        try:
            return (path.parent / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(f"{path.parent / file}: cannot be read ({reason})") from error

    raw = read_yaml(read(path.name), str(path))
    try:
        found = _built(name, raw, read)
        load_task(found.task)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    return found


def parse_manifest(name: str, text: str, read: Callable[[str], str] | None = None) -> Manifest:
    """Build a manifest from YAML; ``read`` gives the split files it names. Raises ManifestError naming set and key."""
    return _built(name, read_yaml(text, f"{name}.yaml"), read)


def _built(name: str, raw: Any, read: Callable[[str], str] | None) -> Manifest:
    if not isinstance(raw, dict):
        raise ManifestError(f"{name}: a manifest is a mapping of {', '.join(sorted(KNOWN_KEYS))}")
    for key in raw:
        if key not in KNOWN_KEYS:
            raise ManifestError(f"{name}: unknown key {key!r}{closest(str(key), KNOWN_KEYS)}")
    for key in KNOWN_KEYS - raw.keys():
        raise ManifestError(f"{name}: the key {key!r} is missing")
    first, second = _modalities(name, raw["modalities"])
    _check_splits(name, raw["splits"], (first.name, second.name))
    files = {key: _inside(name, entry["file"]) for key, entry in raw["splits"].items() if "file" in entry}
    texts = {file: (read or _split_text)(file) for file in sorted(set(files.values()))}
    splits = {key: _split(name, key, entry, texts) for key, entry in raw["splits"].items()}
    folder, task = _inside(name, raw["folder"]), str(raw["task"])
    return Manifest(
        name=name,
        title=str(raw["title"] or name),
        folder=folder,
        task=task,
        modalities=(first, second),
        splits=splits,
        homepage=str(raw["homepage"] or ""),
        terms=str(raw["terms"] or ""),
        citation=str(raw["citation"] or ""),
        digest=_digest(folder, task, (first, second), splits),
    )


def _digest(folder: str, task: str, modalities: tuple[Modality, Modality], splits: dict[str, Split]) -> str:
    sides = {name: [split.folders, split.stems, split.digest] for name, split in splits.items()}
    channels = [[modality.name, modality.channels] for modality in modalities]
    return hashlib.sha256(json.dumps([folder, task, channels, sides], sort_keys=True).encode()).hexdigest()


def folder_manifest(names: tuple[str, str] = ("visible", "infrared"), task: str = "ivf") -> Manifest:
    """The manifest of two folders that nobody described: one split, whose folders are the two given."""
    first, second = names
    return Manifest(
        name="pairs",
        title="image pairs from two folders",
        folder=".",
        task=task,
        modalities=(Modality(name=first, channels=3), Modality(name=second, channels=1)),
        splits={FOLDERS_SPLIT: Split(name=FOLDERS_SPLIT, folders={first: first, second: second})},
        homepage="",
        terms="",
        citation="",
        digest=hashlib.sha256(f"pairs {first} {second} {task}".encode()).hexdigest(),
    )


def members_digest(members: dict[str, list[str]]) -> str:
    """SHA-256 over the stems of a split file, split by split: what its ``sha256`` line must say."""
    lines = [f"{split} {stem}" for split in sorted(members) for stem in sorted(members[split])]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _modalities(name: str, raw: object) -> tuple[Modality, Modality]:
    if not isinstance(raw, list) or len(raw) != 2:
        raise ManifestError(f"{name}: 'modalities' must list two, each with 'name' and 'channels'")
    found = []
    for entry in raw:
        if not isinstance(entry, dict) or set(entry) != {"name", "channels"} or entry["channels"] not in (1, 3):
            raise ManifestError(f"{name}: a modality has a 'name' and 'channels' of 1 or 3, found {entry!r}")
        if not NAME.fullmatch(str(entry["name"])):
            raise ManifestError(f"{name}: modality {entry['name']!r}: letters, digits, _ and - only, at most 64")
        found.append(Modality(name=str(entry["name"]), channels=entry["channels"]))
    if found[0].name == found[1].name:
        raise ManifestError(f"{name}: both modalities are called {found[0].name!r}; give each a name of its own")
    return found[0], found[1]


def _check_splits(name: str, raw: object, modalities: tuple[str, str]) -> None:
    if not isinstance(raw, dict) or not raw:
        raise ManifestError(f"{name}: 'splits' must map each split's name to its folders")
    for key, entry in raw.items():
        where = f"{name}: split {key!r}"
        if not isinstance(key, str):
            raise ManifestError(f"{where}: YAML takes this name for no text; put it in quotes")
        if not isinstance(entry, dict) or not isinstance(entry.get("folders"), dict):
            raise ManifestError(f"{where}: expected a mapping with 'folders'")
        for word in entry:
            if word not in SPLIT_KEYS:
                raise ManifestError(f"{where}: unknown key {word!r}{closest(str(word), SPLIT_KEYS)}")
        if set(entry["folders"]) != set(modalities):
            raise ManifestError(f"{where}: 'folders' must name one for each of {modalities[0]} and {modalities[1]}")
        if len({str(Path(str(folder))) for folder in entry["folders"].values()}) < len(modalities):
            raise ManifestError(f"{where}: both modalities name the folder {next(iter(entry['folders'].values()))}")
        stems, expected = entry.get("stems", "*"), entry.get("expected", 1)
        if not isinstance(stems, str):
            raise ManifestError(f"{where}: 'stems' is {stems!r}, expected a pattern such as 'train-*'")
        if type(expected) is not int or expected < 1:
            raise ManifestError(f"{where}: 'expected' is {expected!r}, expected how many pairs there should be")


def _split(name: str, key: str, entry: dict[str, Any], texts: dict[str, str]) -> Split:
    folders = {modality: _inside(name, folder) for modality, folder in entry["folders"].items()}
    if "file" not in entry:
        return Split(name=key, folders=folders, stems=entry.get("stems"), expected=entry.get("expected"))
    raw = read_yaml(texts[str(entry["file"])], str(entry["file"]))
    listed = isinstance(raw, dict) and all(isinstance(raw.get(split), list) for split in ("train", "test"))
    if not listed or key not in ("train", "test"):
        raise ManifestError(
            f"{entry['file']}: a split file lists the stems of 'train' and of 'test', and their 'sha256'"
        )
    members: dict[str, list[str]] = {split: [str(stem) for stem in raw[split]] for split in ("train", "test")}
    if members_digest(members) != raw.get("sha256"):
        raise ManifestError(
            f"{entry['file']}: the stems do not match the file's sha256; a split is fixed: make a new version instead"
        )
    return Split(
        name=key,
        folders=folders,
        members=frozenset(members[key]),
        expected=len(members[key]),
        file=str(entry["file"]),
        digest=str(raw["sha256"]),
    )


def _split_text(file: str) -> str:
    return (resources.files("manifests") / file).read_text(encoding="utf-8")


def _inside(name: str, folder: object) -> str:
    if not isinstance(folder, str):
        raise ManifestError(f"{name}: the path {folder!r} is no text; write one, or put it in quotes")
    path = Path(folder)
    if path.is_absolute() or ".." in path.parts or "\0" in folder:
        raise ManifestError(f"{name}: the path {folder!r} leaves the data folder")
    return folder
