"""Test pictures stay out of training: they are known by their decoded pixels, whatever the folder is called."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from os import cpu_count
from pathlib import Path

import numpy as np

from pipeline.errors import InputError
from pipeline.images import Picture, read_image
from pipeline.manifest import load_manifest
from pipeline.pairs import Pair, find_pairs
from pipeline.words import shown

DIGITS = 16  # hexadecimal digits kept: 64 bits, far more than a few hundred pairs need


def picture_hash(picture: Picture) -> str:
    """SHA-256 of size and decoded pixels. Grey stored as three equal channels counts as grey; alpha does not count."""
    pixels = picture.pixels
    if (
        pixels.ndim == 3
        and np.array_equal(pixels[:, :, 0], pixels[:, :, 1])
        and np.array_equal(pixels[:, :, 0], pixels[:, :, 2])
    ):
        pixels = pixels[:, :, 0]
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype.newbyteorder('<').str} ".encode())
    digest.update(np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def content_hash(first: Picture, second: Picture) -> str:
    """Sixteen hexadecimal digits that stand for a pair's decoded pixels, however the files are named or encoded."""
    return join_hashes(picture_hash(first), picture_hash(second))


def join_hashes(first: str, second: str) -> str:
    """The pair's hash from the two ``picture_hash`` values."""
    return hashlib.sha256(f"{first} {second}".encode()).hexdigest()[:DIGITS]


def pair_hash(pair: Pair) -> str:
    """``content_hash`` of a pair's files. Raises ImageError."""
    return content_hash(read_image(pair.first), read_image(pair.second))


def guarded_names() -> list[str]:
    """The data sets whose test pairs are listed."""
    folder = resources.files("manifests") / "test_content"
    return sorted(entry.name.removesuffix(".txt") for entry in folder.iterdir() if entry.name.endswith(".txt"))


@cache
def listed_hashes(name: str) -> dict[str, str]:
    """The listed test pairs of one data set: stem by content hash."""
    text = (resources.files("manifests") / "test_content" / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return {digits: stem for digits, stem in lines}


@cache
def test_hashes() -> frozenset[str]:
    """Content hashes of every listed test pair."""
    return frozenset(digits for name in guarded_names() for digits in listed_hashes(name))


def refuse_test_content(content: Iterable[Pair | str]) -> None:
    """Refuse to train on test pairs. ``content``: pairs, which are decoded here, or their content hashes.

    Raises InputError naming the data set and the pairs.
    """
    items = list(content)
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        hashes = list(pool.map(lambda item: item if isinstance(item, str) else pair_hash(item), items))
    found = [
        f"{name} {listed_hashes(name)[digits]}" + ("" if isinstance(item, str) else f" ({item.first})")
        for item, digits in zip(items, hashes, strict=True)
        if digits in test_hashes()
        for name in guarded_names()
        if digits in listed_hashes(name)
    ]
    if found:
        raise InputError(
            f"test pairs among the training data, known by their pixels: {shown(found)}; training on them would make "
            "every score on that test set worthless: take them out"
        )


def list_test_content(name: str, root: Path) -> str:
    """The text of ``manifests/test_content/<name>.txt``, made from the data set under ``root``."""
    pairs = find_pairs(load_manifest(name), root, ["test"])
    with ThreadPoolExecutor(max_workers=cpu_count()) as pool:
        hashes = list(pool.map(pair_hash, pairs))
    lines = [f"{digits} {pair.stem}" for digits, pair in zip(hashes, pairs, strict=True)]
    return f"# {name}: content hash and stem of each test pair; see pipeline/guard.py\n" + "\n".join(lines) + "\n"
