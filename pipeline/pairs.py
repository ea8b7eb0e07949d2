"""Finding pairs: two files of one stem, one in each modality's folder. Nothing is zipped, nothing skipped in silence."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.errors import ImageError, InputError, PairingError
from pipeline.images import EXTENSIONS, Picture, probe_image, read_image
from pipeline.manifest import Manifest, Split

SHOWN = 5  # how many offending paths a message lists before it counts the rest
UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
SMALLEST = 8  # pixels a side: the networks' three halvings
LONGEST_KEY = 72  # with modality and suffix it fits a tar header


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two files of one scene. ``key`` is unique in its set and safe as a file name; it has no dot."""

    key: str
    stem: str
    split: str
    first: Path
    second: Path


def data_root(option: Path | None = None) -> Path:
    """The data root: the option, else FUSIONCLI_DATA, else ``data``. Raises InputError when it does not exist."""
    root = option or Path(os.environ.get("FUSIONCLI_DATA", "data"))
    if not root.is_dir():
        raise InputError(f"{root}: no such data folder; give --root DIR or set FUSIONCLI_DATA")
    return root


def find_pairs(manifest: Manifest, root: Path, splits: Collection[str] | None = None) -> list[Pair]:
    """All pairs of the given splits (default: every split), sorted by key.

    Raises PairingError naming stray files, orphans, double stems and missing members.
    """
    for name in splits or ():
        if name not in manifest.splits:
            raise InputError(f"{manifest.name} has no split {name!r}; it has {', '.join(manifest.splits)}")
    home = root / manifest.folder
    sharing: dict[tuple[str, ...], list[Split]] = {}
    for split in manifest.splits.values():
        sharing.setdefault(tuple(split.folders.values()), []).append(split)
    found: list[tuple[str, str, Path, Path]] = []
    for split in manifest.splits.values():
        if splits is not None and split.name not in splits:
            continue
        stems = _split_stems(manifest, home, split, sharing[tuple(split.folders.values())])
        found += [(split.name, stem, first, second) for stem, (first, second) in stems.items()]
    return _with_keys(found, _stems_elsewhere(manifest, home, {name for name, *_ in found}))


def pair_folders(first: Path, second: Path, split: str = "train") -> list[Pair]:
    """The pairs of any two folders, sorted by key. Raises PairingError as ``find_pairs`` does."""
    stems = _match(images_in(first), images_in(second), first, second)
    return _with_keys([(split, stem, *files) for stem, files in stems.items()])


def images_in(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem. Raises PairingError: no folder, nothing in it, strays, double stems."""
    if not folder.exists():
        raise PairingError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise PairingError(f"{folder}: a file where a folder of images was expected")
    entries = sorted(folder.iterdir())
    strays = [path for path in entries if path.suffix.lower() not in EXTENSIONS or not path.is_file()]
    if strays:
        raise PairingError(f"not images: {shown(strays)}; move them out of the image folder")
    if not entries:
        raise PairingError(f"{folder}: the folder is empty")
    doubles = [stem for stem, times in Counter(file_stem(path) for path in entries).items() if times > 1]
    if doubles:
        raise PairingError(f"{folder}: several files have the stem {shown(doubles)}; keep one of each")
    return {file_stem(path): path for path in entries}


def read_pair(pair: Pair, channels: tuple[int, int] = (3, 1)) -> tuple[Picture, Picture]:
    """Decode both images. Raises ImageError; PairingError for different sizes or modalities in the wrong order."""
    first, second = read_image(pair.first), read_image(pair.second)
    _check_sizes(pair, first.size, second.size)
    for path, picture, wanted in ((pair.first, first, channels[0]), (pair.second, second, channels[1])):
        if wanted == 1 and not picture.is_grey():
            raise PairingError(
                f"{path}: a colour image where a grey one (infrared, MRI) was expected; are the two modalities swapped?"
            )
    return first, second


def pair_size(pair: Pair) -> tuple[int, int]:
    """Height and width from the headers alone. Raises ImageError, or PairingError when they differ."""
    first, second = probe_image(pair.first), probe_image(pair.second)
    sizes = (first.height, first.width), (second.height, second.width)
    _check_sizes(pair, *sizes)
    return sizes[0]


def check_order(pairs: Sequence[Pair], channels: tuple[int, int] = (3, 1), sample: int = 3) -> None:
    """Decode a few pairs, spread over all, so that swapped folders are found before any work is done.

    Raises PairingError as ``read_pair`` does. A damaged file is not this check's business: whoever reads it names it.
    """
    step = max(1, len(pairs) // sample)
    for pair in pairs[::step][:sample]:
        with suppress(ImageError):
            read_pair(pair, channels)


def safe_key(stem: str) -> str:
    """``stem`` itself where it is a safe file name; otherwise its safe part and eight digits of its hash."""
    plain = UNSAFE.sub("_", unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()).strip("_-")
    if plain == stem and len(plain) <= LONGEST_KEY:
        return plain
    digest = hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{plain[: LONGEST_KEY - 9]}-{digest}" if plain else f"pair-{digest}"


def shown(items: Iterable[object]) -> str:
    """The first few items and how many more there are."""
    listed = [str(item) for item in items]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _split_stems(manifest: Manifest, home: Path, split: Split, sharing: list[Split]) -> dict[str, tuple[Path, Path]]:
    first, second = (home / split.folders[name] for name in manifest.names)
    stems = _match(images_in(first), images_in(second), first, second)
    strays = [stems[stem][0] for stem in stems if not any(in_split(stem, other) for other in sharing)]
    if strays:
        raise PairingError(
            f"not in any split of {manifest.name}: {shown(strays)}; use --pairs for pairs of your own, or move them elsewhere"
        )
    missing = sorted((split.members or frozenset()) - stems.keys())
    if missing:
        raise PairingError(f"{first}: the {split.name} split of {manifest.name} lacks {shown(missing)}")
    return {stem: files for stem, files in stems.items() if in_split(stem, split)}


def in_split(stem: str, split: Split) -> bool:
    """Whether a file of this stem belongs to the split."""
    if split.members is not None:
        return stem in split.members
    return split.stems is None or fnmatchcase(stem, split.stems)


def _match(
    first: Mapping[str, Path], second: Mapping[str, Path], first_folder: Path, second_folder: Path
) -> dict[str, tuple[Path, Path]]:
    orphans = [first[stem] for stem in sorted(first.keys() - second.keys())]
    orphans += [second[stem] for stem in sorted(second.keys() - first.keys())]
    if orphans:
        raise PairingError(
            f"without a partner of the same stem in {first_folder} and {second_folder}: {shown(orphans)}"
        )
    return {stem: (first[stem], second[stem]) for stem in sorted(first)}


def _stems_elsewhere(manifest: Manifest, home: Path, done: Collection[str]) -> list[str]:
    """Stems of the splits that were not asked for: a pair's key must not depend on what else was."""
    folders = [home / split.folders[manifest.names[0]] for split in manifest.splits.values() if split.name not in done]
    used = {home / manifest.splits[name].folders[manifest.names[0]] for name in done}
    return [
        file_stem(path) for folder in folders if folder not in used and folder.is_dir() for path in folder.iterdir()
    ]


def _with_keys(found: list[tuple[str, str, Path, Path]], elsewhere: Iterable[str] = ()) -> list[Pair]:
    times = Counter(safe_key(stem) for _, stem, _, _ in found) + Counter(safe_key(stem) for stem in elsewhere)
    pairs = []
    for split, stem, first, second in found:
        key = safe_key(stem)
        if times[key] > 1:  # one stem in two splits
            key = safe_key(f"{split}/{stem}")
        pairs.append(Pair(key=key, stem=stem, split=split, first=first, second=second))
    return sorted(pairs, key=lambda pair: pair.key)


def file_stem(path: Path) -> str:
    """The file's name without its suffix, in one Unicode form (file systems differ in theirs)."""
    return unicodedata.normalize("NFC", path.stem)


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
