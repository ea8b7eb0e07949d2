"""Videos drawn frame by frame: what comes out has the right pixels at the right times, with the sound that went in."""

from __future__ import annotations

import json
import socket
import threading
import time
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import Run
from films import SIZE, flat, held_sideways, infrared_frame, read, sound_of, visible_frame, write
from fusion.alignment import Fit
from fusion.film import Film
from fusion.flicker import FlickerMeter
from fusion.footage import Footage, is_video
from fusion.inference import Fuser
from fusion.video import Moment, VideoOptions, fuse_videos, nearest
from pipeline.errors import FusionError, InputError, PairingError

av = pytest.importorskip("av", reason="needs the extra video")


@pytest.fixture(scope="module")
def fuser() -> Fuser:
    return Fuser.from_pretrained("nano", device="cpu", at_once=2)


def test_every_frame_is_what_the_fuser_makes_of_that_moment(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", visible_frame, 20)
    infrared = write(tmp_path / "i.mkv", infrared_frame, 20)
    seen: list[int] = []
    report = fuse_videos(
        fuser, str(visible), str(infrared), tmp_path / "f.mp4", on_frame=lambda frames, rate, total: seen.append(frames)
    )
    assert (report.frames, report.repeated, report.skipped, report.audio) == (20, 0, 0, False)
    assert seen == list(range(1, 21))
    fused, times, rate = read(tmp_path / "f.mp4")
    assert rate == 25 and times == pytest.approx([index / 25 for index in range(20)], abs=1e-4)
    for index in (0, 7, 19):
        expected = fuser(visible_frame(index), infrared_frame(index)[..., 0]).astype(int)
        assert np.abs(fused[index] - expected).mean() < 3, f"frame {index}"  # 4:2:0 and crf 18
    other = fuser(visible_frame(7), infrared_frame(0)[..., 0]).astype(int)
    assert np.abs(fused[7] - other).mean() > 3, "another moment's infrared frame would be noticed"


def test_uneven_time_stamps_are_kept(fuser: Fuser, tmp_path: Path) -> None:
    stamps = [0, 33, 50, 133, 140, 300, 301, 420]
    visible = write(tmp_path / "v.mkv", visible_frame, 8, stamps=stamps, base=Fraction(1, 1000))
    infrared = write(tmp_path / "i.mkv", infrared_frame, 20)
    for name in ("f.mp4", "f.mkv"):
        report = fuse_videos(fuser, str(visible), str(infrared), tmp_path / name)
        assert report.frames == 8
        assert read(tmp_path / name)[1] == pytest.approx([stamp / 1000 for stamp in stamps], abs=1e-3)


def test_frames_of_other_rates_are_paired_by_time_and_the_shorter_ends_it() -> None:
    def moments(rate: float, count: int) -> list[Moment]:
        return [Moment(pixels=flat(index), stamp=index, seconds=index / rate) for index in range(count)]

    slower = list(nearest(iter(moments(30, 100)), iter(moments(10, 5)), shown=0.1))
    assert [one.index for one in slower] == [min(4, int(k / 3 + 0.5)) for k in range(15)]
    faster = list(nearest(iter(moments(10, 5)), iter(moments(30, 100)), shown=1 / 30))
    assert [one.index for one in faster] == [0, 3, 6, 9, 12]
    assert list(nearest(iter(moments(10, 5)), iter([]), shown=0.1)) == []


def test_a_frame_between_two_is_paired_with_the_later() -> None:
    visible = [Moment(pixels=flat(index), stamp=index, seconds=index / 2) for index in range(6)]
    infrared = [Moment(pixels=flat(index), stamp=index, seconds=float(index)) for index in range(3)]
    assert [one.index for one in nearest(iter(visible), iter(infrared), shown=1)] == [0, 1, 1, 2, 2, 2]


def test_a_slower_infrared_video_is_repeated_and_counted(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", lambda index: flat(0), 30, rate=30)
    infrared = write(tmp_path / "i.mkv", infrared_frame, 6, rate=10)
    report = fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mkv")
    assert (report.frames, report.repeated, report.skipped) == (18, 12, 0)
    fused, times, _ = read(tmp_path / "f.mkv")
    assert len(fused) == 18 and times[-1] == pytest.approx(17 / 30, abs=1e-3)
    reverse = fuse_videos(fuser, str(infrared), str(visible), tmp_path / "g.mkv")
    assert (reverse.frames, reverse.repeated, reverse.skipped) == (6, 0, 10)


@pytest.mark.parametrize("speaker", ["visible", "infrared"])
def test_audio_is_copied_to_the_byte_and_ends_with_the_picture(fuser: Fuser, tmp_path: Path, speaker: str) -> None:
    visible = write(tmp_path / "v.mp4", visible_frame, 24, sound=speaker == "visible")
    infrared = write(tmp_path / "i.mp4", infrared_frame, 12, sound=speaker == "infrared")
    report = fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mp4")
    assert report.audio and report.frames == 12
    original, copied = sound_of(visible if speaker == "visible" else infrared), sound_of(tmp_path / "f.mp4")
    assert len(copied) >= 6
    assert [content for _, content in copied] == [content for _, content in original][: len(copied)]
    assert [when for when, _ in copied] == pytest.approx([when for when, _ in original][: len(copied)], abs=1e-3)
    assert copied[-1][0] < 12 / 25
    silent = fuse_videos(fuser, str(visible), str(infrared), tmp_path / "s.mp4", VideoOptions(audio=False))
    assert not silent.audio and sound_of(tmp_path / "s.mp4") == []


def test_sound_whose_channels_have_no_names_goes_into_mp4(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.avi", visible_frame, 12, sound=True, voice=("pcm_s16le", "stereo"))
    with av.open(str(visible)) as container:
        assert container.streams.audio[0].codec_context.layout.name == "2 channels", "AVI names none"
    infrared = write(tmp_path / "i.mkv", infrared_frame, 12)
    assert fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mp4").audio
    original, copied = (b"".join(content for _, content in sound_of(tmp_path / name)) for name in ("v.avi", "f.mp4"))
    assert len(copied) > 4 * 4000 and original.startswith(copied)


def test_sound_that_a_format_chokes_on_is_named(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.ts", visible_frame, 12, sound=True)
    infrared = write(tmp_path / "i.mkv", infrared_frame, 12)
    with pytest.raises(FusionError, match="if its aac audio is why, choose .mkv, or --no-audio"):
        fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.avi")
    assert not (tmp_path / "f.avi").exists()


def test_packets_of_sound_that_nobody_writes_are_not_kept(fuser: Fuser, tmp_path: Path, monkeypatch: Any) -> None:
    opened: list[Footage] = []
    monkeypatch.setattr("fusion.video.Footage", lambda *given: opened.append(Footage(*given)) or opened[-1])
    visible = write(tmp_path / "v.mp4", visible_frame, 12, sound=True)
    infrared = write(tmp_path / "i.mp4", infrared_frame, 12, sound=True)
    for audio in (True, False):
        fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mp4", VideoOptions(audio=audio))
    assert [len(one.audio) < 6 for one in opened] == [True] * 4


def test_one_video_of_both_halves_gives_what_two_give(fuser: Fuser, tmp_path: Path, monkeypatch: Any) -> None:
    """Pixel by pixel as they reach the encoder: x264 itself, on several threads, does not always code them alike."""
    visible = write(tmp_path / "v.mkv", visible_frame, 5)
    infrared = write(tmp_path / "i.mkv", infrared_frame, 5)
    both = write(tmp_path / "b.mkv", lambda index: np.hstack([infrared_frame(index), visible_frame(index)]), 5)
    fused: list[NDArray[np.uint8]] = []
    add = Film.add
    monkeypatch.setattr(
        Film, "add", lambda film, pixels, stamp: (fused.append(pixels.copy()), add(film, pixels, stamp))
    )
    fuse_videos(fuser, str(visible), str(infrared), tmp_path / "two.mkv")
    fuse_videos(fuser, str(both), None, tmp_path / "one.mkv", VideoOptions(side_by_side="infrared-visible"))
    assert len(fused) == 10
    for two, one in zip(fused[:5], fused[5:], strict=True):
        np.testing.assert_array_equal(one, two)
    for name in ("one", "two"):
        for frame, pixels in zip(read(tmp_path / f"{name}.mkv")[0], fused[:5], strict=True):
            assert np.abs(frame.astype(int) - pixels).mean() < 4, "what is written is what was fused"


def test_flicker_is_the_change_of_the_result_beyond_that_of_its_sources() -> None:
    meter = FlickerMeter()
    assert meter.value is None
    for visible, infrared, fused in ((100, 50, 100), (102, 50, 110), (102, 55, 110)):
        meter.add(flat(visible), flat(infrared)[..., 0], flat(fused))
    assert meter.value == pytest.approx(((10 - 2) + (0 - 5)) / 2, abs=1e-4)


def test_a_video_that_is_still_does_not_flicker(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", lambda index: visible_frame(0), 4)
    infrared = write(tmp_path / "i.mkv", lambda index: infrared_frame(3), 4)
    assert fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mkv").flicker == 0


def test_a_url_is_read_and_seconds_limit_it(fuser: Fuser, tmp_path: Path) -> None:
    write(tmp_path / "v.mkv", visible_frame, 20)
    write(tmp_path / "i.mkv", infrared_frame, 20)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        home = f"http://127.0.0.1:{server.server_address[1]}"
        report = fuse_videos(fuser, f"{home}/v.mkv", f"{home}/i.mkv", tmp_path / "f.mkv", VideoOptions(seconds=0.4))
    finally:
        server.shutdown()
        server.server_close()
    assert report.frames == 10


def test_a_live_stream_is_fused_until_it_ends(fuser: Fuser, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def send() -> None:
        container = av.open(f"tcp://127.0.0.1:{port}", "w", format="mpegts")
        video = container.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "5"})
        video.height, video.width, video.pix_fmt = SIZE[0], 2 * SIZE[1], "yuv420p"
        for index in range(15):
            both = np.hstack([visible_frame(index), infrared_frame(index)])
            container.mux(video.encode(av.VideoFrame.from_ndarray(both, format="rgb24")))
        container.mux(video.encode(None))
        container.close()

    def send_once_heard() -> None:
        for _ in range(100):
            try:
                send()  # it connects with its first packet
                return
            except ConnectionRefusedError:
                time.sleep(0.1)

    sender = threading.Thread(target=send_once_heard, daemon=True)
    sender.start()
    options = VideoOptions(side_by_side="visible-infrared")
    report = fuse_videos(fuser, f"tcp://127.0.0.1:{port}?listen=1", None, tmp_path / "f.mp4", options)
    sender.join(timeout=10)
    assert report.frames == 15 and len(read(tmp_path / "f.mp4")[0]) == 15


def test_frames_of_another_size_are_refused_or_scaled_when_asked(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", visible_frame, 3)
    infrared = write(tmp_path / "i.mkv", lambda index: flat(90, (32, 48)), 3)
    with pytest.raises(PairingError, match=r"96 x 64 pixels, .* 48 x 32.*--resize"):
        fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mkv")
    assert not (tmp_path / "f.mkv").exists()
    asked = VideoOptions(asked=Fit(resize=True))
    assert fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mkv", asked).frames == 3


def test_odd_sizes_are_kept(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", lambda index: flat(40, (33, 47)), 3)
    infrared = write(tmp_path / "i.mkv", lambda index: flat(90, (33, 47)), 3)
    fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mp4")
    assert read(tmp_path / "f.mp4")[0][0].shape == (33, 47, 3)


def test_what_cannot_be_fused_says_why_and_leaves_nothing(fuser: Fuser, tmp_path: Path) -> None:
    visible = str(write(tmp_path / "v.mkv", visible_frame, 3))
    colour = str(write(tmp_path / "c.mkv", lambda index: visible_frame(index), 3))
    (tmp_path / "text.mp4").write_text("not a video")
    before = sorted(path.name for path in tmp_path.iterdir())
    for infrared, out, options, expected in (
        (str(tmp_path / "text.mp4"), "f.mp4", VideoOptions(), "not a video that can be opened"),
        (str(tmp_path / "none.mp4"), "f.mp4", VideoOptions(), "no such file"),
        (colour, "f.mp4", VideoOptions(), "a colour video where the infrared"),
        (colour, "f.gif", VideoOptions(), "unknown video format"),
        (visible, "v.mkv", VideoOptions(), "is one of the videos"),
        (None, "f.mp4", VideoOptions(), "--side-by-side"),
    ):
        with pytest.raises((InputError, FusionError), match=expected):
            fuse_videos(fuser, visible, infrared, tmp_path / out, options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(InputError, match="expected visible-infrared or"):
        VideoOptions(side_by_side="left")


def test_a_video_cut_short_is_named(fuser: Fuser, tmp_path: Path) -> None:
    infrared = str(write(tmp_path / "i.mp4", infrared_frame, 30))
    whole = write(tmp_path / "v.mp4", visible_frame, 30)
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:-600])
    with pytest.raises((InputError, FusionError), match=r"cut\.mp4"):
        fuse_videos(fuser, str(tmp_path / "cut.mp4"), infrared, tmp_path / "f.mp4")


def test_the_names_of_videos_are_told_from_those_of_images() -> None:
    assert all(is_video(name) for name in ("a.MP4", "b.webm", "rtsp://host/1", "/dev/video0", "dshow:Camera"))
    assert not any(is_video(name) for name in ("a.png", "folder", "/dev/null", "camera:0"))


def test_the_command_fuses_videos_and_reports(fusioncli: Run, tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", visible_frame, 10, sound=True)
    write(tmp_path / "i.mp4", infrared_frame, 10)
    done = fusioncli("fuse", "v.mp4", "i.mp4", "--out", "f.mp4", "--weights", "nano", "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["frames"] == 10 and report["audio"] is True
    assert "frames to f.mp4" in done.stderr and "flicker" in done.stderr


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_that_was_held_sideways_is_fused_as_players_show_it(
    fuser: Fuser, tmp_path: Path, quarters: int
) -> None:
    """The same film, once upright and once as a phone on its side stores it."""

    def stored(index: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.rot90(visible_frame(index), quarters))

    infrared = write(tmp_path / "i.mp4", infrared_frame, 3)
    upright = write(tmp_path / "v.mp4", visible_frame, 3)
    turned = held_sideways(write(tmp_path / "t.mp4", stored, 3), quarters)
    for name, visible in (("a.mkv", upright), ("b.mkv", turned)):
        fuse_videos(fuser, str(visible), str(infrared), tmp_path / name)
    (expected, *_), (fused, *_) = read(tmp_path / "a.mkv"), read(tmp_path / "b.mkv")
    assert fused[1].shape == (*SIZE, 3)
    assert np.abs(fused[1].astype(int) - expected[1]).mean() < 3
