"""Reading and writing videos through PyAV: files, webcams and network streams in; one file with their time stamps out."""

from __future__ import annotations

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

CODECS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
}
SUFFIXES = frozenset({*CODECS, ".ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv"})
SETTINGS = {
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    "mpeg4": {"q": "3"},
}
SILENCE = 20.0  # seconds after which a source that sends nothing is given up
WEBCAMS = {"/dev/video": "v4l2", "v4l2:": "v4l2", "avfoundation:": "avfoundation", "dshow:": "dshow"}  # FFmpeg's names
WEBCAM_HERE = {"linux": "/dev/video0", "darwin": "avfoundation:0", "win32": "dshow:NAME"}
BT709 = 1  # how FFmpeg numbers this matrix of luma and chroma; 2 is "not said"
UNSAID = 2


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
    """An opened video. ``frames`` may be read once; the audio packets met on the way gather in ``audio``."""

    def __init__(self, source: str) -> None:
        av = _av()
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
                self.container = av.open(source, options=whole, timeout=SILENCE if live else None)
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{source}: not a video that can be opened ({_reason(error)})") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{source}: holds no video")
        self.video = self.container.streams.video[0]
        self.video.thread_type = "AUTO"
        self.sound = self.container.streams.audio[0] if self.container.streams.audio else None
        self.audio: deque[Any] = deque()
        self.base: Fraction = self.video.time_base
        self.colourspace: int = UNSAID
        self.first: int | None = None
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

    def frames(self) -> Iterator[Moment]:
        """All frames in order. Raises FusionError where the file is damaged."""
        av = _av()
        try:
            for packet in self.container.demux([stream for stream in (self.video, self.sound) if stream is not None]):
                if packet.stream is self.video:
                    for frame in packet.decode():
                        yield self._moment(frame)
                elif packet.dts is not None:
                    self.audio.append(packet)
        except av.error.FFmpegError as error:
            raise FusionError(f"{self.source}: damaged or broken off ({_reason(error)})") from error

    def _moment(self, frame: Any) -> Moment:
        if self.first is None:
            self.first, self.colourspace = frame.pts or 0, int(frame.colorspace)
        stamp = frame.pts if frame.pts is not None else self.first
        pixels, quarters = frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)  # how a phone was held
        self.turned = bool(quarters % 2)
        if quarters:
            pixels = np.ascontiguousarray(np.rot90(pixels, quarters))
        return Moment(pixels=pixels, stamp=stamp, seconds=float((stamp - self.first) * self.base))

    def close(self) -> None:
        """Let go of the file or device."""
        self.container.close()


class Film:
    """The video that is written: the time stamps of ``like`` and, copied, the audio of ``sound``.

    ``path`` may be a temporary name: its suffix chooses the format.
    """

    def __init__(self, path: Path, like: Footage, size: tuple[int, int], sound: Footage | None) -> None:
        av = _av()
        codec = CODECS[path.suffix.lower()]
        self.container = av.open(str(path), "w")
        self.video = self.container.add_stream(codec, rate=like.rate, options=SETTINGS[codec])
        self.video.height, self.video.width = size
        even = size[0] % 2 == 0 and size[1] % 2 == 0
        self.video.pix_fmt = "yuv420p" if even or codec != "libx264" else "yuv444p"
        if codec != "mpeg4":  # whose clock knows no finer unit than the frame
            self.video.codec_context.time_base = like.base
        self.path, self.like = path, like
        self.colourspace = like.colourspace if like.colourspace == BT709 else UNSAID
        self.video.codec_context.colorspace = self.colourspace
        ratio = like.video.codec_context.sample_aspect_ratio
        if ratio:
            self.video.codec_context.sample_aspect_ratio = 1 / ratio if like.turned else ratio
        self.sound = sound
        if sound is not None:
            self.late = (like.first or 0) * like.base - (sound.first or 0) * sound.base  # one clock for both
            try:
                self.copied = self.container.add_stream_from_template(sound.sound)
            except (ValueError, av.error.FFmpegError) as error:
                self.container.close()
                raise InputError(f"{path.suffix}: cannot hold this audio; choose .mkv, or --no-audio") from error

    def add(self, pixels: NDArray[np.uint8], stamp: int) -> None:
        """Encode (H, W, 3) at a time stamp, and the audio that came before it. Raises FusionError."""
        av = _av()
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if self.colourspace == BT709:
            frame = frame.reformat(format=self.video.pix_fmt, dst_colorspace=BT709)
        frame.pts, frame.time_base = stamp, self.like.base
        self._mux(frame, float(stamp * self.like.base))

    def close(self, end: float) -> None:
        """Write what is left; audio from ``end`` (seconds of the clock of ``like``) on is left out."""
        self._mux(None, end)
        self.container.close()

    def _mux(self, frame: Any, until: float) -> None:
        av = _av()
        try:
            while self.sound is not None and self.sound.audio:
                packet = self.sound.audio[0]
                if float(packet.pts * packet.time_base + self.late) >= until:
                    break
                self.sound.audio.popleft()
                shift = round(self.late / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, self.copied
                self.container.mux(packet)
            self.container.mux(self.video.encode(frame))
        except av.error.FFmpegError as error:
            raise FusionError(f"{self.path}: cannot be written ({_reason(error)})") from error


def check_film(path: Path) -> None:
    """Raises InputError where ``path`` cannot become a video: format, folder."""
    if path.suffix.lower() not in CODECS:
        raise InputError(f"{path}: unknown video format {path.suffix!r}; use one of {', '.join(CODECS)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")


def _opened_webcam(source: str, name: str, device: str) -> Any:
    av = _av()
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


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise MissingPackage("videos need PyAV: pip install 'fusioncli[video]'") from error
    return av


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
