"""Fusing two short uploaded videos. Only containers that hold their own pictures are opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fusion.demo.shelf import Item, Shelf
from fusion.inference import Fuser
from fusion.video import VideoOptions, fuse_videos
from pipeline.errors import FusionError, InputError

SECONDS = 20.0  # of video: more is a task for the command line
# A playlist may name other files of this machine, which the decoder would read; these formats do not.
FORMATS: dict[str, Callable[[bytes], bool]] = {
    ".mp4": lambda head: head[4:8] == b"ftyp",
    ".mkv": lambda head: head[:4] == b"\x1a\x45\xdf\xa3",
    ".avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
}


@dataclass(frozen=True, kw_only=True)
class FusedFilm:
    """A fused video on the shelf, and what there is to say of it."""

    item: Item
    facts: dict[str, str]


def can_fuse_films() -> bool:
    """Whether the extra ``video`` is installed."""
    return find_spec("av") is not None


def check_film_upload(item: Item) -> None:
    """Raises InputError for what is not an MP4 (MOV), Matroska (WebM) or AVI file, told by its content."""
    with item.path.open("rb") as file:
        head = file.read(12)
    if not any(belongs(head) for belongs in FORMATS.values()):
        raise InputError(f"{item.name}: not an MP4, MOV, MKV, WebM or AVI video")


def fuse_films(shelf: Shelf, first: Item, second: Item, fuser: Fuser) -> FusedFilm:
    """Fuse the first SECONDS of two videos into an MP4. Raises FusionError in the words of the files' names."""
    for item in (first, second):
        check_film_upload(item)
    made = shelf.place(f"{Path(first.name).stem}-fused.mp4")
    try:
        report = fuse_videos(fuser, str(first.path), str(second.path), made.path, VideoOptions(seconds=SECONDS))
    except FusionError as error:
        shelf.drop(made)
        message = str(error).replace(str(first.path), first.name).replace(str(second.path), second.name)
        raise type(error)(message) from error
    facts = {
        "frames": str(report.frames),
        "frames a second, fusing": f"{report.rate:.1f}",
        "frames a second, playing": f"{report.playback:.3g}",
        "infrared frames repeated": str(report.repeated),
        "infrared frames left out": str(report.skipped),
        "flicker added, grey levels": "–" if report.flicker is None else f"{report.flicker:+.2f}",
        "sound": "copied" if report.audio else "none",
    }
    return FusedFilm(item=made, facts=facts)
