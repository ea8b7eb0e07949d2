"""A fused video is shown as its visible one is: the shape of its pixels, its colours, and its place when it was moved."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from films import held_sideways, infrared_frame, read, visible_frame, write
from fusion.alignment import Fit
from fusion.inference import Fuser
from fusion.video import VideoOptions, fuse_videos
from pipeline.errors import InputError
from test_alignment import as_infrared, picture, scene

av = pytest.importorskip("av", reason="needs the extra video")
UNSAID = 2  # matrix, primaries and transfer of ITU-T H.273


def special(path: Path, aspect: Fraction | None = None, said: tuple[int, int, int] | None = None) -> Path:
    """Three of ``visible_frame`` in H.264 with pixels ``aspect`` times as wide as high, or colours that are ``said``."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        video.height, video.width = visible_frame(0).shape[:2]
        video.pix_fmt = "yuv444p"
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if said is not None:
            context = video.codec_context
            context.colorspace, context.color_primaries, context.color_trc = said
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(visible_frame(index), format="rgb24")
            if said is not None and said[0] != UNSAID:
                frame = frame.reformat(format="yuv444p", dst_colorspace={6: 5}.get(said[0], said[0]))
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def aspect_of(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        return Fraction(container.streams.video[0].codec_context.sample_aspect_ratio)


@pytest.mark.parametrize(("quarters", "expected"), [(0, Fraction(4, 3)), (1, Fraction(3, 4)), (2, Fraction(4, 3))])
def test_pixels_that_are_not_square_stay_so(fuser: Fuser, tmp_path: Path, quarters: int, expected: Fraction) -> None:
    visible = special(tmp_path / "v.mp4", aspect=Fraction(4, 3))
    if quarters:
        held_sideways(visible, quarters)
    infrared = write(tmp_path / "i.mp4", lambda index: np.rot90(infrared_frame(index), quarters), 3)
    fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mp4")
    assert aspect_of(tmp_path / "f.mp4") == expected


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
@pytest.mark.parametrize(
    "said", [(2, 2, 2), (1, 1, 1), (6, 6, 6), (5, 5, 6), (9, 9, 14)], ids=["none", "709", "601", "601-625", "2020"]
)
def test_colours_are_written_by_the_matrix_that_they_are_marked_with(
    fuser: Fuser, tmp_path: Path, said: tuple[int, int, int], suffix: str
) -> None:
    infrared = str(write(tmp_path / "i.mkv", infrared_frame, 3))
    special(tmp_path / "plain.mp4", said=None)
    special(tmp_path / "marked.mp4", said=said)
    for name in ("plain", "marked"):
        fuse_videos(fuser, str(tmp_path / f"{name}.mp4"), infrared, tmp_path / f"{name}-fused{suffix}")
    with av.open(str(tmp_path / f"marked-fused{suffix}")) as container:
        frame = next(container.decode(video=0))
        written = int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc)
        assert written == said or (suffix == ".webm" and written[0] in (said[0], 6))  # one number there for both of 601
    (marked, *_), (plain, *_) = read(tmp_path / f"marked-fused{suffix}"), read(tmp_path / f"plain-fused{suffix}")
    assert np.abs(marked[1].astype(int) - plain[1]).mean() < 2.5, "any other matrix is further off"


def test_colours_in_an_order_that_is_not_written_are_marked_as_what_they_became(fuser: Fuser, tmp_path: Path) -> None:
    """RGB itself, in H.264: matrix 0."""
    infrared = str(write(tmp_path / "i.mkv", infrared_frame, 3))
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        video = container.add_stream("libx264rgb", rate=25, options={"crf": "1", "bf": "0"})
        video.height, video.width = visible_frame(0).shape[:2]
        video.pix_fmt = "rgb24"
        for index in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(visible_frame(index), format="rgb24")))
        container.mux(video.encode(None))
    fuse_videos(fuser, str(tmp_path / "v.mkv"), infrared, tmp_path / "f.mkv")
    with av.open(str(tmp_path / "f.mkv")) as container:
        assert next(container.decode(video=0)).colorspace == 6


@pytest.mark.parametrize(("transfer", "expected"), [(16, "PQ"), (18, "HLG"), (1, None)])
def test_a_high_dynamic_range_is_said(fuser: Fuser, tmp_path: Path, transfer: int, expected: str | None) -> None:
    infrared = str(write(tmp_path / "i.mkv", infrared_frame, 3))
    visible = special(tmp_path / "v.mp4", said=(9, 9, transfer))
    assert fuse_videos(fuser, str(visible), infrared, tmp_path / "f.mp4").hdr == expected
    with av.open(str(tmp_path / "f.mp4")) as container:
        assert next(container.decode(video=0)).color_trc == transfer


def test_a_moved_video_lies_where_its_transform_says(fuser: Fuser, tmp_path: Path) -> None:
    """Of an odd overlap a row and a column are left out: videos are coded in even sizes."""
    wide = scene(150, 190)
    day, heat = picture(wide[10:138, 15:175]).pixels, picture(as_infrared(wide)[1:129, :160]).pixels
    colour = np.dstack([day, day, 255 - day])
    visible = write(tmp_path / "v.mkv", lambda index: colour, 3)
    infrared = write(tmp_path / "i.mkv", lambda index: heat[..., None].repeat(3, 2), 3)
    fuse_videos(fuser, str(visible), str(infrared), tmp_path / "f.mkv", VideoOptions(asked=Fit(align="shift")))
    described = json.loads((tmp_path / "f.mkv.transform.json").read_text())
    crop = described["crop"]
    assert described["infrared_to_visible"][0][2] == pytest.approx(-15, abs=0.5)
    assert described["infrared_to_visible"][1][2] == pytest.approx(-9, abs=0.5)
    assert crop["width"] % 2 == crop["height"] % 2 == 0
    assert 140 < crop["width"] < 146 and 114 < crop["height"] < 120
    frames, _, _ = read(tmp_path / "f.mkv")
    assert {frame.shape for frame in frames} == {(crop["height"], crop["width"], 3)}
    rows, columns = (slice(crop[at], crop[at] + crop[size]) for at, size in (("top", "height"), ("left", "width")))
    where = (slice(9, 9 + crop["height"]), slice(15, 15 + crop["width"]))
    expected, unmoved = fuser(colour[rows, columns], heat[where]), fuser(colour[rows, columns], heat[rows, columns])
    assert np.abs(frames[1].astype(int) - expected).mean() < 6 < np.abs(unmoved.astype(int) - expected).mean() / 2


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="--seconds"):
        VideoOptions(seconds=seconds)
