"""Fusing videos: two (or one side by side) in, one out.

The visible video leads. Each of its frames, with its own time stamp, is fused with the infrared frame nearest in time,
counted from each video's first frame; of two as near, the later. The result ends where either video ends: with the last
visible frame that starts before the last infrared frame has been shown. So a slower infrared video has frames fused twice,
a faster one has frames left out, and the report counts both.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import KINDS, STRICT, Fit, Placement, cropped, fit, moved, place, resized
from fusion.film import Film, check_film
from fusion.flicker import FlickerMeter
from fusion.footage import Footage, Moment, is_live
from fusion.fused_image import save_transform
from fusion.inference import Fuser
from fusion.relay import ahead
from fusion.thread_share import fusing_threads
from pipeline.atomic import atomic_path
from pipeline.errors import InputError, PairingError
from pipeline.images import Picture

Sources = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # the visible pixels (H, W, 3) and the infrared's (H, W)

AHEAD = 4  # frames decoded, and encoded, before or after the one being fused
COLOUR_NOISE = 24  # grey levels between the channels of an infrared frame that chroma coding may leave
SIDES = ("visible-infrared", "infrared-visible")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was made: ``repeated`` and ``skipped`` infrared frames, ``flicker`` in grey levels (fusion.flicker).

    ``rate`` is frames fused a second of work, ``playback`` frames a second as the result says. ``cut``: the videos that
    end well before the length they give. ``hdr``: the transfer of high dynamic range, PQ or HLG, that 8 bits now hold.
    """

    frames: int
    seconds: float
    rate: float
    playback: float
    repeated: int
    skipped: int
    audio: bool
    flicker: float | None
    cut: tuple[str, ...] = ()
    hdr: str | None = None


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """``side_by_side``: which half of one video is which; ``seconds``: stop after so much of it; ``audio``: copy it."""

    asked: Fit = STRICT
    side_by_side: str | None = None
    seconds: float | None = None
    audio: bool = True

    def __post_init__(self) -> None:
        if self.side_by_side is not None and self.side_by_side not in SIDES:
            raise InputError(f"--side-by-side {self.side_by_side}: expected {' or '.join(SIDES)}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InputError(f"--seconds {self.seconds:g}: must be above 0")


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Two frames of one moment; ``index`` counts infrared frames from 0."""

    visible: Moment
    infrared: Moment
    index: int


def fuse_videos(
    fuser: Fuser,
    visible: str,
    infrared: str | None,
    out: Path,
    options: VideoOptions | None = None,
    on_frame: Callable[[int, float, int | None], None] = lambda frames, rate, total: None,
    kinds: tuple[str | None, str | None] = (None, None),
) -> Report:
    """Fuse two videos, or with ``side_by_side`` the halves of one, into ``out``; any may be a URL or a webcam.

    ``on_frame`` hears the frames so far, the rate now and about how many there will be. Time stamps are the visible
    video's; audio is copied from it, else from the infrared one. A live source is ended by the keyboard; what was fused
    until then is kept. ``kinds``: what Footage takes for each video. Raises InputError, PairingError, FusionError; then nothing is kept.
    """
    options = options or VideoOptions()
    check_film(out)
    if (infrared is None) == (options.side_by_side is None):
        raise InputError("give two videos, or one with --side-by-side visible-infrared or infrared-visible")
    if any(not is_live(name) and Path(name).resolve() == out.resolve() for name in (visible, infrared) if name):
        raise InputError(f"{out}: is one of the videos to be fused; give another name with --out")
    footage = [Footage(visible, kinds[0])]
    try:
        if infrared is not None:
            footage.append(Footage(infrared, kinds[1]))
        sound = next((one for one in footage if one.sound is not None), None) if options.audio else None
        for one in footage:
            if one is not sound:
                one.sound = None  # packets that nobody writes would gather in memory
        with atomic_path(out) as temporary:
            return _Fusing(fuser, footage, sound, options, on_frame).into(temporary, out)
    finally:
        for one in footage:
            one.close()


def nearest(visible: Iterator[Moment], infrared: Iterator[Moment], shown: float) -> Iterator[Pairing]:
    """Every visible frame with the infrared frame nearest in time; ``shown`` seconds is how long the last one lasts."""
    current = next(infrared, None)
    following = next(infrared, None)
    index = 0
    for moment in visible:
        while (
            current is not None
            and following is not None
            and abs(following.seconds - moment.seconds) <= abs(current.seconds - moment.seconds)
        ):
            current, following, index = following, next(infrared, None), index + 1
        if current is None or (following is None and moment.seconds >= current.seconds + shown - 1e-6):
            return
        yield Pairing(visible=moment, infrared=current, index=index)


class _Fusing:
    """One run: decoding, fusing and encoding, each in threads of its own; the fuser says how many fuse (``at_once``)."""

    def __init__(
        self,
        fuser: Fuser,
        footage: list[Footage],
        sound: Footage | None,
        options: VideoOptions,
        on_frame: Callable[[int, float, int | None], None],
    ) -> None:
        self.fuser, self.footage, self.sound, self.options, self.on_frame = fuser, footage, sound, options, on_frame
        self.names = footage[0].source, footage[-1].source
        self.placement: Placement | None = None
        self.flicker = FlickerMeter()
        self.film: Film | None = None
        self.last: Pairing | None = None
        self.sizes: tuple[tuple[int, int], ...] = ()  # height and width of the first pair
        self.broken = False
        self.started = 0.0
        self.done = self.repeated = 0

    def into(self, temporary: Path, out: Path) -> Report:
        self.out = out
        self.started = time.perf_counter()
        live = any(is_live(one.source) for one in self.footage)
        readers = [ahead(one.frames(), AHEAD) for one in self.footage]
        fusing: deque[tuple[Pairing, Sources, Future[NDArray[np.uint8]]]] = deque()
        writing: deque[Future[None]] = deque()
        try:
            with ThreadPoolExecutor(1) as writer, fusing_threads(self.fuser.at_once) as fusers:

                def settle(frames: int) -> None:
                    """Hand fused frames on, in order, until no more than ``frames`` are being fused."""
                    while len(fusing) > frames:
                        pairing, sources, fused = fusing.popleft()
                        writing.append(writer.submit(self._write, temporary, pairing, sources, fused.result()))
                        if len(writing) > AHEAD:
                            writing.popleft().result()
                        self._count(pairing)

                try:
                    for pairing in self._pairings(readers):
                        sources = self._fitted(pairing)
                        fusing.append((pairing, sources, fusers.submit(self.fuser, *sources)))
                        settle(self.fuser.at_once)
                except KeyboardInterrupt:
                    if not live:
                        raise
                settle(0)
                for one in writing:
                    one.result()
        finally:
            for reader in readers:
                reader.close()
        film, last, leading = self.film, self.last, self.footage[0]
        if film is None or last is None:
            raise PairingError(f"{self.names[0]} and {self.names[1]}: no moment that both show")
        film.close(end=float(last.visible.stamp * leading.base) + float(1 / leading.rate))
        seconds = time.perf_counter() - self.started
        save_transform(out, self.placement.described if self.placement else None)
        return Report(
            frames=self.done,
            seconds=seconds,
            rate=self.done / seconds,
            playback=float(leading.rate),
            repeated=self.repeated,
            skipped=last.index + 1 - (self.done - self.repeated),
            audio=self.sound is not None,
            flicker=self.flicker.value,
            cut=tuple(one.source for one in self.footage if one.is_cut),
            hdr=leading.colours.hdr,
        )

    def _write(self, temporary: Path, pairing: Pairing, sources: Sources, fused: NDArray[np.uint8]) -> None:
        """In the one thread that writes, frame after frame."""
        if self.broken:
            return
        self.broken = True  # until this frame is written: FFmpeg does not bear being called again
        self.flicker.add(*sources, fused)
        if self.film is None:
            self.film = Film(temporary, self.footage[0], (fused.shape[0], fused.shape[1]), self.sound, self.out)
        self.film.add(fused, pairing.visible.stamp)
        self.broken = False

    def _count(self, pairing: Pairing) -> None:
        self.done += 1
        self.repeated += self.last is not None and pairing.index == self.last.index
        self.last = pairing
        self.on_frame(self.done, self.done / (time.perf_counter() - self.started), self.footage[0].count)

    def _pairings(self, readers: Sequence[Iterator[Moment]]) -> Iterator[Pairing]:
        limit = self.options.seconds
        if self.options.side_by_side is None:
            pairings = nearest(readers[0], readers[1], float(1 / self.footage[1].rate))
        else:
            pairings = (self._halves(whole, index) for index, whole in enumerate(readers[0]))
        for pairing in pairings:
            if limit is not None and pairing.visible.seconds >= limit - 1e-6:
                return
            yield pairing

    def _halves(self, whole: Moment, index: int) -> Pairing:
        width = whole.pixels.shape[1] // 2
        left, right = (
            Moment(pixels=np.ascontiguousarray(half), stamp=whole.stamp, seconds=whole.seconds)
            for half in (whole.pixels[:, :width], whole.pixels[:, -width:])
        )
        if self.options.side_by_side == SIDES[0]:
            return Pairing(visible=left, infrared=right, index=index)
        return Pairing(visible=right, infrared=left, index=index)

    def _fitted(self, pairing: Pairing) -> Sources:
        """The visible pixels (H, W, 3) and the infrared's (H, W), brought together as the first pair was."""
        visible = Picture(pixels=pairing.visible.pixels)
        infrared = Picture(pixels=np.ascontiguousarray(pairing.infrared.pixels[..., 1]))
        asked = self.options.asked
        sizes = visible.size, infrared.size
        for name, first, now in zip(self.names, self.sizes, sizes, strict=False):
            if first != now:
                raise PairingError(
                    f"{name}: changes from {first[1]} x {first[0]} to {now[1]} x {now[0]} pixels at "
                    f"{pairing.visible.seconds:.2f} s; cut it there and fuse the parts"
                )
        if not self.sizes:
            if not Picture(pixels=pairing.infrared.pixels).is_grey(COLOUR_NOISE):
                raise PairingError(
                    f"{self.names[1]}: a colour video where the infrared one was expected; are they swapped?"
                )
            if asked.align in KINDS:
                self.placement = _even(place(visible, infrared, self.names, asked))
            else:
                fit(visible, infrared, self.names, asked)
            self.sizes = sizes
        if self.placement is not None:
            infrared = moved(infrared, self.placement, visible.size)
            visible = cropped(visible, self.placement.box)
        elif infrared.size != visible.size:
            infrared = resized(infrared, visible.size)
        return visible.pixels.astype(np.uint8, copy=False), infrared.pixels.astype(np.uint8, copy=False)


def _even(placement: Placement) -> Placement:
    """The same with an even width and height, which videos are coded in."""
    left, top, right, bottom = placement.box
    right, bottom = right - (right - left) % 2, bottom - (bottom - top) % 2
    described = {
        **placement.described,
        "crop": {"left": left, "top": top, "width": right - left, "height": bottom - top},
    }
    return Placement(matrix=placement.matrix, box=(left, top, right, bottom), described=described)
