"""Webcams by their systems' names; what is read is FFmpeg's drawn camera, because a machine for tests has no other."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from command_line import Run
from fusion import footage
from fusion.footage import Footage, is_live, webcam
from pipeline.errors import InputError

av = pytest.importorskip("av", reason="needs the extra video")


@pytest.mark.parametrize(("source", "opened"), [
    ("/dev/video2", ("/dev/video2", "v4l2")),
    ("v4l2:/dev/v4l/by-id/thermal", ("/dev/v4l/by-id/thermal", "v4l2")),
    ("avfoundation:0", ("0", "avfoundation")),
    ("dshow:Integrated Camera", ("video=Integrated Camera", "dshow")),
    ("dshow:video=Two:audio=None", ("video=Two:audio=None", "dshow")),
    ("v.mp4", None),
])  # fmt: skip
def test_a_webcam_is_opened_by_its_systems_device(source: str, opened: tuple[str, str] | None) -> None:
    assert webcam(source) == opened and is_live(source) == (opened is not None)


def test_a_device_without_end_is_read_like_a_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(footage.WEBCAMS, "lavfi:", "lavfi")  # FFmpeg's drawn camera: a device too, and everywhere
    drawn = Footage("lavfi:testsrc=size=64x48:rate=10")
    moments = list(islice(drawn.frames(), 25))
    assert drawn.count is None and drawn.rate == 10
    drawn.close()
    assert [moment.seconds for moment in moments] == pytest.approx([index / 10 for index in range(25)])
    assert moments[0].pixels.shape == (48, 64, 3)
    assert np.any(moments[0].pixels != moments[24].pixels)


def test_a_webcam_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, fusioncli: Run) -> None:
    if "video4linux2,v4l2" not in av.formats_available:
        pytest.skip("this FFmpeg reads no Video4Linux")
    done = fusioncli("fuse", "/dev/video97", "/dev/video98", "--out", "f.mp4", "--weights", "nano")
    assert done.returncode == 2 and "/dev/video97: no such webcam" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.strip().count("\n") <= 1
    monkeypatch.setattr(av, "formats_available", {"mp4", "video4linux2,v4l2"})
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(InputError, match=r"^dshow:Cam: no dshow webcams on this machine; .* like /dev/video0$"):
        Footage("dshow:Cam")
