"""Videos as recorders, cameras and full disks leave them: fused by the right moments, or refused in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import Run, heeding
from films import flat, infrared_frame, read, sound_of, visible_frame, write
from fusion.film import Film
from fusion.footage import Footage
from fusion.inference import Fuser
from fusion.video import fuse_videos
from pipeline.errors import FusionError, InputError, PairingError

av = pytest.importorskip("av", reason="needs the extra video")

MILLISECONDS = Fraction(1, 1000)


def coded(path: Path, frames: int, **options: str) -> Path:
    """``infrared_frame`` in H.264, with frames that are stored in another order than they are shown."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "1", **options})
        video.height, video.width = infrared_frame(0).shape[:2]
        video.pix_fmt = "yuv444p"
        for index in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(infrared_frame(index), format="rgb24")))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv", ".ts"])
def test_frames_stored_out_of_order_are_read_as_they_are_shown(tmp_path: Path, suffix: str) -> None:
    """AVI keeps no time of showing, and FFmpeg's guess sends them back and forth."""
    footage = Footage(str(coded(tmp_path / f"i{suffix}", 20, bf="2", **{"x264-params": "b-adapt=0"})))
    moments = list(footage.frames())
    footage.close()
    assert [round(float(one.pixels.mean())) for one in moments] == pytest.approx(
        [20 + 10 * index for index in range(20)], abs=2
    )
    assert [one.seconds for one in moments] == pytest.approx([index / 25 for index in range(20)], abs=2e-3)


def test_an_avi_begins_at_nothing_and_keeps_time_with_its_sound(fuser: Fuser, tmp_path: Path) -> None:
    stamps = [540 + 40 * index for index in range(12)]
    visible = write(tmp_path / "v.mkv", visible_frame, 12, stamps=stamps, base=MILLISECONDS)
    infrared = write(tmp_path / "i.mp4", infrared_frame, 12, sound=True)
    fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.avi")
    _, times, rate = read(tmp_path / "f.avi")
    assert rate == 25 and times == pytest.approx([index / 25 for index in range(12)])
    assert sound_of(tmp_path / "f.avi")[0][0] == pytest.approx(0, abs=0.07)


def test_a_rate_that_mpeg4_cannot_count_is_written_as_the_nearest(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mp4", visible_frame, 12, rate=Fraction(120000, 1001))
    fuse_videos(fuser, str(visible), str(write(tmp_path / "i.mp4", infrared_frame, 12)), tmp_path / "f.avi")
    assert float(read(tmp_path / "f.avi")[2]) == pytest.approx(120000 / 1001, rel=1e-4)


def test_uneven_time_does_not_go_into_an_avi(fuser: Fuser, tmp_path: Path) -> None:
    visible = write(tmp_path / "v.mkv", visible_frame, 5, stamps=[0, 33, 50, 133, 140], base=MILLISECONDS)
    infrared = write(tmp_path / "i.mkv", infrared_frame, 20)
    with pytest.raises(InputError, match=r"f\.avi: \.avi holds frames at one constant rate.*choose \.mkv or \.mp4"):
        fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.avi")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.mkv", "v.mkv"]


def test_a_last_frame_that_is_cut_off_is_an_error(fuser: Fuser, tmp_path: Path) -> None:
    """An MP4 whose index comes first opens and plays although half of it is missing."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "v.mp4"), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        for frame in noise:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    content = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    infrared = write(tmp_path / "i.mp4", infrared_frame, 30)
    assert fuse_videos(fuser, str(tmp_path / "v.mp4"), str(infrared), tmp_path / "f.mp4").frames == 30
    with pytest.raises(FusionError, match=r"cut\.mp4: damaged or broken off"):
        fuse_videos(fuser, str(tmp_path / "cut.mp4"), str(infrared), tmp_path / "f.mp4")


def test_a_matroska_that_ends_before_its_length_is_noted(fusioncli: Run, tmp_path: Path) -> None:
    """It has no sign of the cut but the length it gives, so what is there is fused and a note says it."""
    content = coded(tmp_path / "i.mkv", 50).read_bytes()
    for name, kept in (("whole.mkv", len(content)), ("cut.mkv", len(content) // 2)):
        (tmp_path / name).write_bytes(content[:kept])
        done = fusioncli("fuse", name, "i.mkv", "--out", "f.mp4", "--weights", "nano", "--align", "none")
        assert done.returncode == 0, done.stderr
        assert ("cut.mkv ends well before the length it gives" in done.stderr) == (name == "cut.mkv")


def test_recordings_joined_end_to_end_are_told(fuser: Fuser, tmp_path: Path) -> None:
    first = write(tmp_path / "a.ts", visible_frame, 10).read_bytes()
    (tmp_path / "joined.ts").write_bytes(first + first)
    infrared = write(tmp_path / "i.mp4", infrared_frame, 20)
    with pytest.raises(FusionError, match=r"joined\.ts: its time stamps run back"):
        fuse_videos(fuser, str(tmp_path / "joined.ts"), str(infrared), tmp_path / "f.mp4")


@pytest.mark.parametrize("changing", ["visible", "infrared"])
def test_a_picture_that_changes_its_size_is_refused(fuser: Fuser, tmp_path: Path, changing: str) -> None:
    def small(index: int) -> NDArray[np.uint8]:
        return flat(60, (48, 64))

    base = Fraction(1, 90000)
    parts = [
        write(tmp_path / f"{name}.ts", draw, 10, stamps=[3600 * (start + index) for index in range(10)], base=base)
        for name, draw, start in (("a", infrared_frame, 0), ("b", small, 10))
    ]
    (tmp_path / "changes.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    steady = str(write(tmp_path / "steady.mp4", infrared_frame, 20))
    pair = [str(tmp_path / "changes.ts"), steady]
    visible, infrared = pair if changing == "visible" else reversed(pair)
    with pytest.raises(PairingError, match=r"changes\.ts: changes from 96 x 64 to 64 x 48 pixels at 0\.[34]\d s"):
        fuse_videos(fuser, visible, infrared, tmp_path / "f.mp4")
    assert not (tmp_path / "f.mp4").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_film_that_cannot_be_begun_says_so_at_once(tmp_path: Path, suffix: str) -> None:
    """FFmpeg ended the process when it was asked to go on."""
    (tmp_path / f"f{suffix}").symlink_to("/dev/full")
    footage = Footage(str(write(tmp_path / "v.mp4", visible_frame, 3)))
    with pytest.raises(FusionError, match=r"out: cannot be written \(No space left"):
        Film(tmp_path / f"f{suffix}", footage, (64, 96), None, Path("out"))
    footage.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".avi"])
def test_a_film_that_cannot_be_ended_is_one_sentence(tmp_path: Path, suffix: str) -> None:
    """These formats keep a short film back until its end."""
    (tmp_path / f"f{suffix}").symlink_to("/dev/full")
    footage = Footage(str(write(tmp_path / "v.mp4", visible_frame, 3)))
    with pytest.raises(FusionError, match=r"out: cannot be written \(No space left"):
        film = Film(tmp_path / f"f{suffix}", footage, (64, 96), None, Path("out"))
        film.add(visible_frame(0), 0)
        film.close(end=1.0)
    footage.close()


def test_where_nothing_can_be_written_is_said_before_the_work(fusioncli: Run, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").mkdir()
    for out, json, expected in (
        ("film.mp4", "-", "film.mp4: a folder"),
        ("f.mp4", "none/r.json", "--json none/r.json: no folder none"),
        ("f.mp4", ".", "--json .: a folder"),
    ):
        write(tmp_path / "v.mp4", visible_frame, 3)
        write(tmp_path / "i.mp4", infrared_frame, 3)
        done = fusioncli("fuse", "v.mp4", "i.mp4", "--out", out, "--weights", "nano", "--json", json)
        assert done.returncode == 2 and expected in done.stderr, done.stderr
        assert not (tmp_path / "f.mp4").exists()


def test_the_keyboard_ends_it_with_a_word_and_leaves_nothing(tmp_path: Path) -> None:
    visible, infrared = (write(tmp_path / name, infrared_frame, 200) for name in ("v.mp4", "i.mp4"))
    command = [sys.executable, "-m", "cli", "--quiet", "fuse", str(visible), str(infrared), "--out", "f.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen(
        [*command, "--weights", "student", "--align", "none"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding,
    )
    while not list(tmp_path.glob(".f.*")) and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert said == "fusioncli: interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.mp4", "v.mp4"]
