"""The images of one folder: what lies between them is named, whether it is refused or passed over."""

from __future__ import annotations

import os
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

from pipeline.console import note
from pipeline.errors import PairingError
from pipeline.images import EXTENSIONS
from pipeline.words import shown

LEFT_BY_SYSTEMS = {".ds_store", "thumbs.db", "desktop.ini"}
BESIDE = "._"  # how macOS begins the name of a file for what another file system cannot hold of one


def names_in(folder: Path) -> list[str]:
    """The names of a folder's images, sorted by stem: a list of names is all that a million files may cost in memory.

    Raises PairingError: no folder, nothing in it, files that are no images, several of one stem.
    """
    if not folder.exists():
        raise PairingError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise PairingError(f"{folder}: a file where a folder of images was expected")
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_file()) for entry in entries)
    if passed := [name for name, is_file in found if is_file and left_by_a_system(name)]:
        _say_once(f"passed over, as no image: {shown(folder / name for name in passed)}")
    listed = [(name, is_file) for name, is_file in found if not is_file or not left_by_a_system(name)]
    strays = [name for name, is_file in listed if not is_file or _suffix(name) not in EXTENSIONS]
    if strays:
        raise PairingError(f"not images: {shown(folder / name for name in strays)}; move them out of the image folder")
    if not listed:
        raise PairingError(f"{folder}: the folder is empty")
    names = sorted((name for name, _ in listed), key=file_stem)
    doubles = [file_stem(one) for one, other in pairwise(names) if file_stem(one) == file_stem(other)]
    if doubles:
        raise PairingError(f"{folder}: several files have the stem {shown(dict.fromkeys(doubles))}; keep one of each")
    return names


def images_in(folder: Path) -> dict[str, Path]:
    """The image files of a folder by stem. Raises PairingError: no folder, nothing in it, strays, double stems."""
    return {file_stem(name): folder / name for name in names_in(folder)}


@cache
def _say_once(message: str) -> None:
    """A command lists some folders twice."""
    note(message)


def left_by_a_system(name: str) -> bool:
    """Whether macOS or Windows leaves files of this name in the folders that a person looks at."""
    return name.lower() in LEFT_BY_SYSTEMS or name.startswith(BESIDE)


def file_stem(file: str | Path) -> str:
    """The file's name without its suffix, in one Unicode form (file systems differ in theirs)."""
    return unicodedata.normalize("NFC", os.path.splitext(file if isinstance(file, str) else file.name)[0])  # noqa: PTH122


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a Path for each of a million names is slow)
