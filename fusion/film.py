"""Writing a video through PyAV, with the time stamps of the one it was made from."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.footage import UNSAID, Footage, load_av, reason_of
from pipeline.errors import FusionError, InputError

CODECS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
}
SETTINGS = {
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    "mpeg4": {"q": "3"},
}
BT601 = 6
MATRICES = {1: 1, 4: 4, 5: 5, BT601: 5, 7: 7, 9: 9}  # of ITU-T H.273, and as swscale numbers those that it converts to
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}  # as FFmpeg guesses them
LARGEST_UNIT = 65535  # what MPEG-4 counts the parts of a second by, at most
OFF_GRID = 0.25  # frames a time stamp may lie beside those of one constant rate


class Film:
    """The video that is written: the time stamps of ``like`` and, copied, the audio of ``sound``.

    ``path`` may be a temporary name: its suffix chooses the format. ``name`` is what messages call it. Raises FusionError
    where it cannot be begun, InputError for audio that the format does not hold.
    """

    def __init__(
        self, path: Path, like: Footage, size: tuple[int, int], sound: Footage | None, name: Path | None = None
    ) -> None:
        av = load_av()
        codec = CODECS[path.suffix.lower()]
        self.container = av.open(str(path), "w")
        # AVI has no time stamps, only frames at one rate from 0 on.
        self.grid = _countable(like.rate) if path.suffix.lower() == ".avi" else None
        self.latest = -1  # place on that grid
        self.start = (like.first or 0) * like.base if self.grid else Fraction(0)
        self.video = self.container.add_stream(codec, rate=self.grid or like.rate, options=SETTINGS[codec])
        self.video.height, self.video.width = size
        even = size[0] % 2 == 0 and size[1] % 2 == 0
        self.video.pix_fmt = "yuv420p" if even or codec != "libx264" else "yuv444p"
        if self.grid is None:
            self.video.codec_context.time_base = like.base
        self.name, self.like = name or path, like
        said = like.colours
        self.matrix = said.matrix if said.matrix in (*MATRICES, UNSAID) else BT601
        self.video.codec_context.colorspace = self.matrix
        self.video.codec_context.color_primaries = said.primaries
        self.video.codec_context.color_trc = said.transfer
        ratio = like.video.codec_context.sample_aspect_ratio
        if ratio:
            self.video.codec_context.sample_aspect_ratio = 1 / ratio if like.turned else ratio
        self.sound = sound
        if sound is not None:
            self.late = (
                (like.first or 0) * like.base - (sound.first or 0) * sound.base - self.start
            )  # one clock for both
            try:
                self.copied = self.container.add_stream_from_template(sound.sound)
                layout = self.copied.codec_context.layout
                if layout.name == f"{layout.nb_channels} channels":  # AVI names none, and MP4 wants names, at its end
                    self.copied.codec_context.layout = LAYOUTS.get(layout.nb_channels, layout)
            except (ValueError, av.error.FFmpegError) as error:
                self.container.close()
                other = ".mov" if path.suffix.lower() == ".mkv" else ".mkv"
                raise InputError(
                    f"{self.name}: {path.suffix} cannot hold {self._voice()} audio; choose {other}, or --no-audio"
                ) from error
        with self._writing():
            self.container.start_encoding()  # what cannot be begun must not be gone on with: that ends the process

    def add(self, pixels: NDArray[np.uint8], stamp: int) -> None:
        """Encode (H, W, 3) at a time stamp, and the audio that came before it. Raises FusionError."""
        av = load_av()
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if self.matrix != UNSAID:
            frame = frame.reformat(format=self.video.pix_fmt, dst_colorspace=MATRICES[self.matrix])
        seconds = stamp * self.like.base - self.start
        if self.grid is None:
            frame.pts, frame.time_base = stamp, self.like.base
        else:
            frame.pts, frame.time_base = round(seconds * self.grid), 1 / self.grid
            if abs(seconds * self.grid - frame.pts) > OFF_GRID or frame.pts <= self.latest:
                raise InputError(
                    f"{self.name}: {self.name.suffix} holds frames at one constant rate, and those of {self.like.source} are not; "
                    "choose .mkv or .mp4"
                )
            self.latest = frame.pts
        self._mux(frame, float(seconds))

    def close(self, end: float) -> None:
        """Write what is left; audio from ``end`` (seconds of the clock of ``like``) on is left out. Raises FusionError."""
        self._mux(None, end - float(self.start))
        with self._writing():
            self.container.close()

    def _mux(self, frame: Any, until: float) -> None:
        with self._writing():
            while self.sound is not None and self.sound.audio:
                packet = self.sound.audio[0]
                at = packet.pts * packet.time_base + self.late
                if float(at) >= until:
                    break
                self.sound.audio.popleft()
                if self.grid is not None and at < 0:  # what an encoder begins with: AVI would move everything for it
                    continue
                shift = round(self.late / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, self.copied
                self.container.mux(packet)
            self.container.mux(self.video.encode(frame))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what FFmpeg says of a file it cannot write into FusionError."""
        try:
            yield
        except load_av().error.FFmpegError as error:
            doubtful = self.sound is not None and error.errno == errno.EINVAL
            advice = f"; if its {self._voice()} audio is why, choose .mkv, or --no-audio" if doubtful else ""
            raise FusionError(f"{self.name}: cannot be written ({reason_of(error)}){advice}") from error

    def _voice(self) -> str:
        """What FFmpeg calls the coding of the audio."""
        stream = self.sound.sound if self.sound is not None else None
        return stream.codec_context.name if stream is not None else "this"


def _countable(rate: Fraction) -> Fraction:
    """The rate nearest to ``rate`` that MPEG-4 can count."""
    return 1 / (1 / rate).limit_denominator(LARGEST_UNIT)


def check_film(path: Path) -> None:
    """Raises InputError where ``path`` cannot become a video: format, folder."""
    if path.suffix.lower() not in CODECS:
        raise InputError(f"{path}: unknown video format {path.suffix!r}; use one of {', '.join(CODECS)}")
    if path.is_dir():
        raise InputError(f"{path}: a folder; give a file name such as {path / 'fused.mp4'}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
