"""What the command line's messages say of its options, in the words of the page, which has choices instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fusion.alignment import HINT, SIZES_HINT
from pipeline.errors import FusionError

WORDS = {
    HINT: "“align” brings them together by shift, affine or homography, and “do not look” there fuses them as they are",
    SIZES_HINT: "“scale to one size” scales the infrared image to it, “align” by affine or homography finds its scale and place",
    "--align ": "align ",
    "--engine ": "engine ",
    "--tile with": "tiles with",
    "use engine": "choose the engine",
    "choose .mkv, or --no-audio": "`fusioncli fuse --no-audio` leaves it out",
}


@contextmanager
def page_words(names: Mapping[Path, str]) -> Iterator[None]:
    """Failures within call paths, and what atomic_path begins there, by their ``names``, and say what can be done."""
    try:
        yield
    except FusionError as error:
        message = str(error)
        for path, name in names.items():
            unfinished = re.escape(str(path.with_name(f".{path.stem}."))) + r"\w+" + re.escape(path.suffix)
            message = re.sub(unfinished, str(path), message).replace(str(path), name)
        for said, ours in WORDS.items():
            message = message.replace(said, ours)
        raise type(error)(message) from error
