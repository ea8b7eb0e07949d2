"""Finding pairs: two files of one stem, one in each modality's folder. Nothing is zipped, nothing skipped in silence."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, overload

from pipeline.errors import ImageError, InputError, PairingError
from pipeline.image_folder import file_stem, names_in
from pipeline.images import GREY_MODES, Picture, probe_image, read_image
from pipeline.manifest import FOLDERS_SPLIT, Manifest, Split, in_split
from pipeline.words import shown

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
SMALLEST = 8  # pixels a side: the networks' three halvings
LONGEST_KEY = 72  # with modality and suffix it fits a tar header


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files of one scene: ``first`` is the visible, CT, PET or SPECT image, ``second`` the infrared or MRI one.

    ``key`` is unique in its set and safe as a file name, without a dot; ``stem`` is the files' own name.
    """

    key: str
    stem: str
    split: str
    first: Path
    second: Path


class Found(NamedTuple):
    """The files of one split: pairs of names in its two folders, sorted by stem."""

    split: str
    first: Path
    second: Path
    files: list[tuple[str, str]]


class PairList(Sequence[Pair]):
    """Pairs that are made when they are asked for: a million of them is two million file names, not two million paths.

    ``places`` holds the split and the two names of each pair, ``renamed`` the keys that do not follow from the stem.
    """

    def __init__(self, places: Sequence[tuple[Found, tuple[str, str]]], renamed: Mapping[int, str]) -> None:
        self.places = places
        self.renamed = renamed

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> PairList: ...
    def __getitem__(self, index: int | slice) -> Pair | PairList:
        if isinstance(index, slice):
            chosen = range(len(self))[index]
            renamed = {n: self.renamed[old] for n, old in enumerate(chosen) if old in self.renamed}
            return PairList(self.places[index], renamed)
        index = range(len(self))[index]
        group, (first, second) = self.places[index]
        stem = file_stem(first)
        key = self.renamed.get(index) or safe_key(stem)
        return Pair(key=key, stem=stem, split=group.split, first=group.first / first, second=group.second / second)


def named_root(option: Path | None = None) -> Path:
    """The data root that is meant, whether it is there or not: the option, else FUSIONCLI_DATA, else ``data``."""
    return option or Path(os.environ.get("FUSIONCLI_DATA") or "data")


def data_root(option: Path | None = None) -> Path:
    """``named_root``. Raises InputError when it does not exist."""
    root = named_root(option)
    if not root.is_dir():
        raise InputError(f"{root}: no such data folder; give --root DIR or set FUSIONCLI_DATA")
    return root


def find_pairs(manifest: Manifest, root: Path, splits: Collection[str] | None = None) -> PairList:
    """All pairs of the given splits (default: every split), sorted by key.

    Raises PairingError naming stray files, orphans, double stems, missing members and stems that are in two splits,
    InputError for an unknown split.
    """
    for name in splits or ():
        if name not in manifest.splits:
            raise InputError(f"{manifest.name} has no split {name!r}; it has {', '.join(manifest.splits)}")
    home = root / manifest.folder
    sharing: dict[tuple[Path, ...], list[Split]] = {}
    for split in manifest.splits.values():
        sharing.setdefault(_folders(manifest, home, split), []).append(split)
    found: list[Found] = []
    done: set[str] = set()
    for split in manifest.splits.values():
        if splits is not None and split.name not in splits:
            continue
        members = _split_files(manifest, home, split, sharing[_folders(manifest, home, split)])
        done |= {split.name} if members.files else set()
        found.append(members)
    return _with_keys(found, _stems_elsewhere(manifest, home, done))


def pair_folders(first: Path, second: Path, split: str = FOLDERS_SPLIT) -> PairList:
    """The pairs of any two folders, sorted by key. Raises PairingError as ``find_pairs`` does."""
    return _with_keys([Found(split, first, second, _match(first, second))])


def read_pair(pair: Pair, channels: tuple[int, int] = (3, 1)) -> tuple[Picture, Picture]:
    """Decode both images. Raises ImageError; PairingError for different sizes or modalities in the wrong order."""
    first, second = read_image(pair.first), read_image(pair.second)
    _check_sizes(pair, first.size, second.size)
    for path, picture, wanted in ((pair.first, first, channels[0]), (pair.second, second, channels[1])):
        if wanted == 1:
            _check_grey(path, picture)
    return first, second


def evenly_spaced(total: int, count: int) -> list[int]:
    """Which of ``total`` pairs stand for all: ``count`` of them, or every one where there are no more."""
    count = min(count, total)
    return [index * total // count for index in range(count)]


def pair_size(pair: Pair, contents: tuple[bytes, bytes] | None = None) -> tuple[int, int]:
    """Height and width from the headers alone; ``contents``: both files, where they were read already.

    Raises ImageError, or PairingError when they differ.
    """
    one, other = contents or (pair.first, pair.second)
    first, second = probe_image(one, name=str(pair.first)), probe_image(other, name=str(pair.second))
    _check_sizes(pair, first.size, second.size)
    return first.size


def check_order(pairs: Sequence[Pair], channels: tuple[int, int] = (3, 1), sample: int = 3) -> None:
    """Look at a few pairs, spread over all, so that swapped folders are found before any work is done.

    Only what the headers leave open is decoded. Raises PairingError as ``read_pair`` does. A damaged file is not this
    check's business: whoever reads it names it.
    """
    step = max(1, len(pairs) // sample)
    for pair in pairs[::step][:sample]:
        with suppress(ImageError):
            pair_size(pair)
            for path, wanted in zip((pair.first, pair.second), channels, strict=True):
                if wanted == 1 and probe_image(path).mode not in GREY_MODES:
                    _check_grey(path, read_image(path))


def safe_key(stem: str) -> str:
    """``stem`` itself where it is a safe file name; otherwise its safe part and eight digits of its hash."""
    plain = UNSAFE.sub("_", unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()).strip("_-")
    if plain == stem and len(plain) <= LONGEST_KEY:
        return plain
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{plain[: LONGEST_KEY - 9]}-{digest}" if plain else f"pair-{digest}"


def _folders(manifest: Manifest, home: Path, split: Split) -> tuple[Path, Path]:
    first, second = manifest.names
    return home / split.folders[first], home / split.folders[second]


def _split_files(manifest: Manifest, home: Path, split: Split, sharing: list[Split]) -> Found:
    first, second = _folders(manifest, home, split)
    files = _match(first, second)
    strays, twice = [], []
    for name, _ in files:
        owners = [other.name for other in sharing if in_split(file_stem(name), other)]
        strays += [] if owners else [first / name]
        twice += [f"{file_stem(name)} in {' and '.join(owners)}"] if len(owners) > 1 else []
    if twice:
        raise PairingError(
            f"{first}: {manifest.name} has pairs in two splits: {shown(twice)}; leave each in one of them"
        )
    if strays:
        raise PairingError(
            f"not in any split of {manifest.name}: {shown(strays)}; use --pairs for pairs of your own, or move them elsewhere"
        )
    missing = sorted(split.members - {file_stem(name) for name, _ in files}) if split.members else []
    if missing:
        raise PairingError(f"{first}: the {split.name} split of {manifest.name} lacks {shown(missing)}")
    return Found(split.name, first, second, [names for names in files if in_split(file_stem(names[0]), split)])


def _match(first: Path, second: Path) -> list[tuple[str, str]]:
    names, others = names_in(first), names_in(second)
    if len(names) != len(others) or any(map(_differ, names, others)):
        stems, partners = set(map(file_stem, names)), set(map(file_stem, others))
        orphans = [first / name for name in names if file_stem(name) not in partners]
        orphans += [second / name for name in others if file_stem(name) not in stems]
        raise PairingError(
            f"without a partner of the same stem in {first} and {second}: {shown(orphans)}; give the two files of a pair "
            "one name before the ending, and move away what has no partner"
        )
    return [(name, name if name == other else other) for name, other in zip(names, others, strict=True)]


def _differ(name: str, other: str) -> bool:
    return name != other and file_stem(name) != file_stem(other)


def _stems_elsewhere(manifest: Manifest, home: Path, done: Collection[str]) -> list[str]:
    """Stems of the splits that were not asked for: a pair's key must not depend on what else was."""
    folders = [home / split.folders[manifest.names[0]] for split in manifest.splits.values() if split.name not in done]
    used = {home / manifest.splits[name].folders[manifest.names[0]] for name in done}
    return [
        file_stem(path.name)
        for folder in folders
        if folder not in used and folder.is_dir()
        for path in folder.iterdir()
    ]


def _with_keys(found: Sequence[Found], elsewhere: Iterable[str] = ()) -> PairList:
    places = [(group, names) for group in found for names in group.files]
    keys = [safe_key(file_stem(names[0])) for _, names in places]
    ordered = sorted(keys)
    doubles = {one for one, other in pairwise(ordered) if one == other}
    doubles |= set(map(safe_key, elsewhere)).intersection(ordered)
    changed = [index for index, key in enumerate(keys) if key in doubles] if doubles else []  # one stem in two splits
    for index in changed:
        group, names = places[index]
        keys[index] = safe_key(f"{group.split}/{file_stem(names[0])}")
    moved = set(changed)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    renamed = {place: keys[index] for place, index in enumerate(order) if index in moved}
    return PairList([places[index] for index in order], renamed)


def _check_grey(path: Path, picture: Picture) -> None:
    if not picture.is_grey():
        raise PairingError(
            f"{path}: a colour image where a grey one (infrared, MRI) was expected; are the two modalities swapped?"
        )


def _check_sizes(pair: Pair, first: tuple[int, int], second: tuple[int, int]) -> None:
    if first != second:
        raise PairingError(
            f"{pair.first} is {first[1]} x {first[0]} pixels, {pair.second} is {second[1]} x {second[0]}: the two images "
            "of a pair must be aligned and of one size"
        )
    if min(first) < SMALLEST:
        raise ImageError(
            f"{pair.first}: {first[1]} x {first[0]} pixels is too small; {SMALLEST} x {SMALLEST} is the least"
        )
