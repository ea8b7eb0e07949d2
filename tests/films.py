"""Films drawn frame by frame for tests, and what is in a film."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av", reason="needs the extra video")

Draw = Callable[[int], NDArray[np.uint8]]
SIZE = (64, 96)


def flat(grey: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.full((*size, 3), grey, dtype=np.uint8)


def visible_frame(index: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    frame = np.dstack([rows * 2, columns * 2, 128 + 0 * rows]).astype(np.uint8)
    frame[8:24, 2 * index : 2 * index + 16] = (240, 60, 30)
    return frame


def infrared_frame(index: int) -> NDArray[np.uint8]:
    return flat(min(255, 20 + 10 * index))


def write(
    path: Path,
    draw: Draw,
    frames: int,
    rate: int | Fraction = 25,
    stamps: Sequence[int] | None = None,
    base: Fraction | None = None,
    sound: bool = False,
    voice: tuple[str, str] = ("aac", "mono"),
) -> Path:
    """Lossless frames; ``stamps`` in units of ``base``; ``sound``: as many seconds of a tone, coded as ``voice`` says."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1" if path.suffix == ".mkv" else "libx264", rate=rate)
        if path.suffix != ".mkv":
            video.options = {"crf": "1", "bf": "0"}
        video.height, video.width = draw(0).shape[:2]
        video.pix_fmt = "yuv444p"
        if base is not None:
            video.codec_context.time_base = base
        audio = container.add_stream(voice[0], rate=16000, layout=voice[1]) if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(index), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            for start in range(0, int(16000 * frames / rate), 1024):
                tone = (8000 * np.sin(np.arange(start, start + 1024) / 8)).astype(np.int16)
                block = av.AudioFrame.from_ndarray(
                    tone.repeat(1 + (voice[1] == "stereo"))[None], format="s16", layout=voice[1]
                )
                block.sample_rate, block.pts = 16000, start
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def read(path: Path) -> tuple[list[NDArray[np.uint8]], list[float], Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(video=0))
        times = [float(frame.pts * stream.time_base) for frame in frames]
        return [frame.to_ndarray(format="rgb24") for frame in frames], times, stream.average_rate


def sound_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.dts is not None]
        return [(round(float(packet.pts * stream.time_base), 4), bytes(packet)) for packet in packets]


def held_sideways(path: Path, quarters: int) -> Path:
    """Say in an MP4's track header that players turn the picture so many quarters clockwise (ISO/IEC 14496-12, 8.3.2)."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one, turn = 1 << 16, {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarters]
    a, b, c, d = (one * value for value in turn)
    content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path
