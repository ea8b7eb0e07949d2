"""Reading videos through PyAV: files, webcams and network streams."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import FusionError, InputError, MissingPackage

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv"})
UNNOTICED = 0.25  # seconds by which a video may be shorter than it says
SILENCE = 20.0  # seconds after which a source that sends nothing is given up
WEBCAMS = {"/dev/video": "v4l2", "v4l2:": "v4l2", "avfoundation:": "avfoundation", "dshow:": "dshow"}  # FFmpeg's names
WEBCAM_HERE = {"linux": "/dev/video0", "darwin": "avfoundation:0", "win32": "dshow:NAME"}
UNSAID = 2  # of what colours mean, as ITU-T H.273 and FFmpeg number it
HDR = {16: "PQ", 18: "HLG"}  # transfers of a high dynamic range


@dataclass(frozen=True)
class Colours:
    """What the colours of a video mean, in the numbers of ITU-T H.273: matrix of luma and chroma, primaries, transfer."""

    matrix: int = UNSAID
    primaries: int = UNSAID
    transfer: int = UNSAID

    @property
    def hdr(self) -> str | None:
        """The name of a transfer of high dynamic range."""
        return HDR.get(self.transfer)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One frame: (H, W, 3) uint8, its time stamp in units of the stream's time base, and in seconds from the first."""

    pixels: NDArray[np.uint8]
    stamp: int
    seconds: float


def is_video(source: str) -> bool:
    """Whether an argument names a video file, a webcam or a stream."""
    return is_live(source) or Path(source).suffix.lower() in SUFFIXES


def is_live(source: str) -> bool:
    """Whether it is a webcam or a URL, so that it may have no end."""
    return "://" in source or webcam(source) is not None


def webcam(source: str) -> tuple[str, str] | None:
    """What FFmpeg opens for a webcam and by which of its devices; None for what is none.

    Linux: /dev/video0, or v4l2: and a path; macOS: avfoundation: and a number or name; Windows: dshow: and a name.
    """
    for prefix, device in WEBCAMS.items():
        if source.startswith(prefix):
            name = source.removeprefix(f"{device}:")
            return (f"video={name}" if device == "dshow" and "=" not in name else name), device
    return None


class Footage:
    """An opened video. ``frames`` may be read once; the audio packets met on the way gather in ``audio``.

    ``kind``: the one format, as FFmpeg calls it, that a file may be of; default any.
    """

    def __init__(self, source: str, kind: str | None = None) -> None:
        av = load_av()
        self.source = source
        live = is_live(source)
        if not live and not Path(source).is_file():
            raise InputError(f"{source}: no such file")
        try:
            camera = webcam(source)
            if camera is not None:
                self.container = _opened_webcam(source, *camera)
            else:
                whole = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
                self.container = av.open(source, format=kind, options=whole, timeout=SILENCE if live else None)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{source}: not a video that can be opened ({reason_of(error)})") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{source}: holds no video")
        self.video = self.container.streams.video[0]
        self.video.thread_type = "AUTO"
        self.sound = self.container.streams.audio[0] if self.container.streams.audio else None
        self.audio: deque[Any] = deque()
        self.base: Fraction = self.video.time_base
        self.guessed = self.container.format.name == "avi"  # which keeps no time of showing: FFmpeg's guess is wrong
        self.colours = Colours()  # as the first frame says
        self.first: int | None = None
        self.latest: int | None = None
        self.ended = False
        self.turned = False  # by a quarter: known from the first frame on

    @property
    def rate(self) -> Fraction:
        """Frames a second, as the file says."""
        return self.video.average_rate or self.video.guessed_rate or Fraction(25)

    @property
    def count(self) -> int | None:
        """About how many frames there are; None for a live source."""
        if self.video.frames:
            return int(self.video.frames)
        duration = self.container.duration
        return round(float(duration / 1_000_000 * self.rate)) if duration and not is_live(self.source) else None

    @property
    def is_cut(self) -> bool:
        """Whether it was read to its end and that came well before the length it gives, which only Matroska does."""
        given = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", self.video.metadata.get("DURATION", ""))
        if not self.ended or self.latest is None or given is None:
            return False
        length = 3600 * int(given[1]) + 60 * int(given[2]) + float(given[3])
        return float(self.latest * self.base + 1 / self.rate) < length - UNNOTICED

    def frames(self) -> Iterator[Moment]:
        """All frames in order. Raises FusionError where the file is damaged."""
        av = load_av()
        whole = True
        try:
            for packet in self.container.demux([stream for stream in (self.video, self.sound) if stream is not None]):
                if packet.stream is self.video:
                    if packet.size:
                        whole = not packet.is_corrupt
                    for frame in packet.decode():
                        yield self._moment(frame)
                elif packet.dts is not None:
                    self.audio.append(packet)
        except av.error.FFmpegError as error:
            raise FusionError(f"{self.source}: damaged or broken off ({reason_of(error)})") from error
        self.ended = True
        if not whole and not is_live(self.source):
            raise FusionError(f"{self.source}: damaged or broken off (its last frame is incomplete)")

    def _moment(self, frame: Any) -> Moment:
        stamp = self._stamp(frame)
        if self.first is None:
            self.first = stamp
            self.colours = Colours(int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc))
        pixels, quarters = frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)  # how a phone was held
        self.turned = bool(quarters % 2)
        if quarters:
            pixels = np.ascontiguousarray(np.rot90(pixels, quarters))
        return Moment(pixels=pixels, stamp=stamp, seconds=float((stamp - self.first) * self.base))

    def _stamp(self, frame: Any) -> int:
        """When the frame is shown, in units of the stream's time base. Raises FusionError where time runs back."""
        stamp = frame.dts if self.guessed else frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            stamp = 0 if self.latest is None else self.latest + round(1 / (self.rate * self.base))
        if self.latest is not None and stamp <= self.latest:
            raise FusionError(
                f"{self.source}: its time stamps run back after {float(self.latest * self.base):.2f} s; "
                "were recordings joined end to end? fuse them one by one"
            )
        self.latest = int(stamp)
        return self.latest

    def close(self) -> None:
        """Let go of the file or device."""
        self.container.close()


def _opened_webcam(source: str, name: str, device: str) -> Any:
    av = load_av()
    if not any(device in known.split(",") for known in av.formats_available):
        usual = WEBCAM_HERE.get(sys.platform)
        raise InputError(
            f"{source}: no {device} webcams on this machine{f'; here they are called like {usual}' if usual else ''}"
        )
    try:
        return av.open(name, format=device)
    except FileNotFoundError as error:
        there = ", ".join(sorted(map(str, Path("/dev").glob("video[0-9]*")))) if device == "v4l2" else ""
        raise InputError(
            f"{source}: no such webcam; {f'there are {there}' if there else 'none is connected'}"
        ) from error


def load_av() -> Any:
    """PyAV. Raises MissingPackage."""
    try:
        import av
    except ImportError as error:
        raise MissingPackage("videos need PyAV: pip install 'fusioncli[video]'") from error
    return av


def reason_of(error: Exception) -> str:
    """What FFmpeg or the operating system says."""
    return str(getattr(error, "strerror", None) or error)
