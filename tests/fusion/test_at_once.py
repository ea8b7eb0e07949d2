"""Several frames fused at the same time come out in their order; where that cannot be asked for is said."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import Run
from fusion import footage
from fusion.footage import Footage
from fusion.inference import Fuser
from fusion.video import VideoOptions, fuse_videos
from pipeline.errors import InputError

pytest.importorskip("av", reason="needs the extra video")

DRAWN = "lavfi:testsrc=size=96x64:rate=10"


@pytest.mark.parametrize("at_once", [0, -3, True, 2.0, "2"])
def test_what_is_no_number_of_pictures_at_once_is_refused(at_once: Any) -> None:
    with pytest.raises(InputError, match=f"at_once is {at_once!r}, expected"):
        Fuser.from_pretrained("nano", at_once=at_once)
    with pytest.raises(InputError, match=f"at_once is {at_once!r}, expected"):
        Fuser.from_pretrained("nowhere", engine="onnx", at_once=at_once)


class Uneven:
    """Gives the visible frame back, every other one late. ``together``: the most calls at the same time."""

    at_once = 3

    def __init__(self) -> None:
        self.lock, self.calls, self.running, self.together = threading.Lock(), 0, 0, 0

    def __call__(self, visible: NDArray[np.uint8], infrared: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with self.lock:
            self.calls, self.running = self.calls + 1, self.running + 1
            self.together = max(self.together, self.running)
            late = self.calls % 2
        time.sleep(0.12 if late else 0.01)
        with self.lock:
            self.running -= 1
        return visible


def test_frames_fused_at_once_are_written_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(footage.WEBCAMS, "lavfi:", "lavfi")
    fuser = Uneven()
    seen: list[int] = []

    def on_frame(frames: int, *_: Any) -> None:
        seen.append(frames)

    report = fuse_videos(
        cast(Fuser, fuser),
        DRAWN,
        "lavfi:color=gray:size=96x64:rate=10",
        tmp_path / "f.mkv",
        VideoOptions(seconds=2),
        on_frame,
    )
    assert report.frames == 20 and seen == list(range(1, 21)) and fuser.together == 3
    source, made = Footage(DRAWN), Footage(str(tmp_path / "f.mkv"))
    expected, written = (
        np.stack([one.pixels for one in islice(film.frames(), 20)]).astype(int) for film in (source, made)
    )
    for film in (source, made):
        film.close()
    for index, frame in enumerate(written):
        assert int(np.abs(expected - frame).mean(axis=(1, 2, 3)).argmin()) == index


def test_an_error_in_one_of_them_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(footage.WEBCAMS, "lavfi:", "lavfi")

    class Failing(Uneven):
        def __call__(self, visible: NDArray[np.uint8], infrared: NDArray[np.uint8]) -> NDArray[np.uint8]:
            if self.calls == 5:
                raise MemoryError("no room")
            return super().__call__(visible, infrared)

    with pytest.raises(MemoryError, match="no room"):
        fuse_videos(cast(Fuser, Failing()), DRAWN, "lavfi:color=gray:size=96x64:rate=10", tmp_path / "f.mkv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "expected"), [("2", "--at-once 2: for folders and videos"), ("0", "at least 1")])
def test_at_once_where_it_makes_no_sense_is_refused(fusioncli: Run, number: str, expected: str) -> None:
    done = fusioncli("fuse", "v.png", "i.png", "--out", "f.png", "--at-once", number)
    assert done.returncode == 2 and expected in done.stderr
