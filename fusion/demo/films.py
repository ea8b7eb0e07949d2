"""Fusing two short uploaded videos. Only containers that hold their own pictures are opened, each as what it claims to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fusion.alignment import Fit
from fusion.demo.shelf import Item, Shelf
from fusion.demo.wording import page_words
from fusion.inference import Fuser
from fusion.video import Report, VideoOptions, fuse_videos
from pipeline.errors import FusionError, InputError

SECONDS = 20.0  # of video: more is a task for the command line
# A playlist may name other files of this machine, which the decoder would read; these formats, by FFmpeg's names, do not.
FORMATS: dict[str, Callable[[bytes], bool]] = {
    "mov": lambda head: head[4:8] == b"ftyp",
    "matroska": lambda head: head[:4] == b"\x1a\x45\xdf\xa3",
    "avi": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
}


@dataclass(frozen=True, kw_only=True)
class FusedFilm:
    """A fused video on the shelf, and what there is to say of it."""

    item: Item
    facts: dict[str, str]


def can_fuse_films() -> bool:
    """Whether the extra ``video`` is installed."""
    return find_spec("av") is not None


def film_kind(item: Item) -> str:
    """Which of FORMATS a file claims to be by its first bytes. Raises InputError for none of them."""
    with item.path.open("rb") as file:
        head = file.read(12)
    for kind, belongs in FORMATS.items():
        if belongs(head):
            return kind
    raise InputError(f"{item.name}: not an MP4, MOV, MKV, WebM or AVI video")


def fuse_films(shelf: Shelf, first: Item, second: Item, asked: Fit, fuser: Fuser) -> FusedFilm:
    """Fuse the first SECONDS of two videos into an MP4. Raises FusionError in the page's words."""
    kinds = film_kind(first), film_kind(second)  # the decoder tries no other: a text may begin like a film
    made = shelf.place(f"{Path(first.name).stem}-fused.mp4")
    options = VideoOptions(asked=asked, seconds=SECONDS)
    total: int | None = None

    def hear(frames: int, rate: float, expected: int | None) -> None:
        nonlocal total
        total = expected

    try:
        with page_words({item.path: item.name for item in (first, second, made)}):
            report = fuse_videos(fuser, str(first.path), str(second.path), made.path, options, hear, kinds)
    except FusionError:
        shelf.drop(made)
        raise
    facts = {
        "frames": str(report.frames),
        "length": _length(report, total),
        "frames a second, fusing": f"{report.rate:.1f}",
        "frames a second, playing": f"{report.playback:.3g}",
        "infrared frames repeated": str(report.repeated),
        "infrared frames left out": str(report.skipped),
        "flicker added, grey levels": "–" if report.flicker is None else f"{report.flicker:+.2f}",
        "sound": "copied" if report.audio else "none",
    }
    return FusedFilm(item=made, facts=facts)


def _length(report: Report, total: int | None) -> str:
    """How long the fused video is; of how much, where it was cut at SECONDS."""
    seconds = report.frames / report.playback
    if total is not None and total > report.frames and seconds > SECONDS - 1:
        return f"the first {SECONDS:g} of {total / report.playback:.0f} seconds"
    return f"{seconds:.1f} seconds"
