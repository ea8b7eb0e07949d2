"""A scorecard: the scores of files or folders, matched by stem, with means over the images where a metric is defined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fusion.score import Scores
from pipeline.errors import ImageError, InputError, PairingError
from pipeline.headers import ImageInfo
from pipeline.image_folder import file_stem
from pipeline.images import EXTENSIONS, GREY_MODES, SIXTEEN_BIT_MODES, Picture, has_pages, probe_image, read_image
from pipeline.words import counted, listed

KIND = "8-bit images of one frame, grey or RGB,"
COLOURED = ", in colour for the metrics of colour"


@dataclass(frozen=True, kw_only=True)
class ScoredFile:
    """The three files of one score."""

    name: str
    first: Path
    second: Path
    fused: Path


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Scores per image, under one convention. ``missing`` counts files left out with --allow-missing."""

    convention: str
    names: tuple[str, ...]
    images: Mapping[str, Scores]
    missing: int = 0

    def mean(self, name: str) -> float | None:
        """Mean of a metric over the images where it is defined; None where there is none."""
        values = [scores[name] for scores in self.images.values()]
        defined = [value for value in values if value is not None]
        return math.fsum(defined) / len(defined) if defined else None

    def undefined(self, name: str) -> int:
        """On how many images a metric is undefined."""
        return sum(scores[name] is None for scores in self.images.values())

    def as_json(self) -> dict[str, object]:
        """The answer of ``fusioncli score --json``; undefined values are null."""
        return {
            "convention": self.convention,
            "mean": {name: self.mean(name) for name in self.names},
            "undefined": {name: self.undefined(name) for name in self.names if self.undefined(name)},
            "n": len(self.images),
            "missing": self.missing,
            "images": [{"name": name, **scores} for name, scores in self.images.items()],
        }


def find_files(
    first: Path, second: Path, fused: Path, allow_missing: bool = False
) -> tuple[tuple[ScoredFile, ...], int]:
    """Three files, or three folders matched by stem: what to score and how many files were left out.

    Raises PairingError where names do not match (unless ``allow_missing``) and InputError on a mixture of both.
    """
    for path in (first, second, fused):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
    folders = [path.is_dir() for path in (first, second, fused)]
    if not any(folders):
        return (ScoredFile(name=fused.stem, first=first, second=second, fused=fused),), 0
    if not all(folders):
        raise InputError(f"{first}, {second}, {fused}: give three files or three folders, not a mixture")
    listings = [images_by_stem(folder) for folder in (first, second, fused)]
    shared = sorted(set.intersection(*(set(listing) for listing in listings)))
    partial = sorted(set.union(*(set(listing) for listing in listings)) - set(shared))
    if not shared:
        counts = ", ".join(
            f"{len(x)} in {path}: {', '.join(sorted(x)[:3])}{', …' * (len(x) > 3)}"
            for x, path in zip(listings, (first, second, fused), strict=True)
        )
        raise PairingError(f"no stem is in all three folders ({counts}); fused images must be named as their sources")
    if partial and not allow_missing:
        problems = [
            f"{stem} (not in {', '.join(str(p) for x, p in zip(listings, (first, second, fused), strict=True) if stem not in x)})"
            for stem in partial
        ]
        raise PairingError(
            f"{listed(problems, counted(len(problems), 'stem') + ' not in all three folders')}; --allow-missing leaves them out"
        )
    files = tuple(ScoredFile(name=s, first=listings[0][s], second=listings[1][s], fused=listings[2][s]) for s in shared)
    return files, len(partial)


def check_files(files: Sequence[ScoredFile], colour: bool = False) -> None:
    """Read all headers first: one error for all files of another size, depth or kind, before any work.

    ``colour``: a grey fused image of a coloured first source is one as well, because colours are to be compared.
    """
    problems: list[str] = []
    for file in files:
        paths = (file.first, file.second, file.fused)
        infos = [header(path, problems) for path in paths]
        known = [info for info in infos if info is not None]
        if len({(info.width, info.height) for info in known}) > 1:
            shown = ", ".join(f"{info.width} x {info.height}" if info else "unreadable" for info in infos)
            problems.append(f"{file.name} has sizes {shown} (first, second, fused)")
        if colour and infos[0] and infos[2] and grey_for_colour(infos[0], infos[2]):
            problems.append(f"{file.fused} is grey, {file.first} in colour")
    if problems:
        raise ImageError(f"{listed(problems)}; scores need {KIND} of one size{COLOURED if colour else ''}")


def header(path: Path, problems: list[str]) -> ImageInfo | None:
    """An image's header. What makes it unfit for scores is added to ``problems``; None where it cannot be read at all."""
    try:
        info = probe_image(path)
    except ImageError as error:
        problems.append(str(error))
        return None
    with Image.open(path) as image:
        if has_pages(image):
            problems.append(f"{path} is animated or has several pages")
        transparent = "transparency" in image.info
    if info.mode in SIXTEEN_BIT_MODES:
        problems.append(f"{path} is 16-bit")
    elif info.mode == "F":
        problems.append(f"{path} holds floating-point values")
    elif transparent or "A" in info.mode or "a" in info.mode:
        problems.append(f"{path} has an alpha channel ({info.mode})")
    return info


def grey_for_colour(first: ImageInfo, fused: ImageInfo) -> bool:
    """Whether the fused image is stored in grey where its first source is stored in colour."""
    return fused.mode in GREY_MODES and first.mode not in GREY_MODES


def read_eight_bit(path: Path) -> Picture:
    """An 8-bit image without alpha, or ImageError."""
    picture = read_image(path)
    if picture.peak != 255:
        raise ImageError(f"{path}: 16-bit, scores are defined on 8-bit images; convert it first")
    if picture.alpha is not None:
        raise ImageError(f"{path}: has an alpha channel; flatten it to grey or RGB first")
    return picture


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder; other files beside them (a table of times, notes) are nobody's business here.

    Raises PairingError for two images of one stem and InputError where there is no image.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
            stem = file_stem(path)
            if stem in found:
                raise PairingError(f"{folder}: {found[stem].name} and {path.name} have the same stem; remove one")
            found[stem] = path
    if not found:
        raise InputError(f"{folder}: no images ({', '.join(sorted(EXTENSIONS))})")
    return found
