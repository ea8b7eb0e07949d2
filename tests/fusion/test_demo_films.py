"""Videos of the demo's server, and what its messages tell people to do: nothing that the page does not have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx: pip install 'fusioncli[server]'")
pytest.importorskip("av", reason="videos need PyAV: pip install 'fusioncli[video]'")

from starlette.testclient import TestClient

from fusion.demo.shelf import Shelf
from fusion.demo.workbench import Choice, Workbench
from fusion.export import FORMAT
from pipeline.errors import InputError
from pipeline.synth import draw_pair
from test_demo import (
    INFRARED,
    VISIBLE,
    client,  # noqa: F401 # a fixture, as is the next
    drawn_store,  # noqa: F401
    film,
    fuse,
    png,
)

PAIR = draw_pair(5, 1, 96, 128)
DAY = np.rint(PAIR.clean_visible * 255).astype(np.uint8)
HEAT = np.rint(np.repeat(PAIR.clean_infrared[..., None], 3, axis=2) * 255).astype(np.uint8)


def give(client: TestClient, content: bytes, name: str) -> str:  # noqa: F811
    answer = client.post("/api/upload", params={"name": name, "kind": "video"}, content=content).json()
    return str(answer["token"])


def fuse_films(client: TestClient, day: bytes, heat: bytes, **choice: object) -> dict[str, object]:  # noqa: F811
    tokens = {"first": give(client, day, "day.mp4"), "second": give(client, heat, "heat.mp4")}
    return dict(client.post("/api/video", params={**tokens, "weights": "nano", **choice}).json())


def write_avi(path: Path) -> bytes:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = DAY.shape[:2]
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(DAY, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def test_a_file_is_opened_as_what_it_claims_to_be_and_as_nothing_else(client: TestClient, tmp_path: Path) -> None:  # noqa: F811
    sound = film(tmp_path / "heat.mp4", [HEAT] * 3)
    for name in ("day.mp4", "day.mov", "day.mkv"):
        assert "facts" in fuse_films(client, film(tmp_path / name, [DAY] * 3), sound)
    assert "facts" in fuse_films(client, write_avi(tmp_path / "day.avi"), sound)
    stream = b"\x1a\x45\xdf\xa3" + film(tmp_path / "day.ts", [DAY] * 30)  # begins like Matroska, and is no such file
    assert "day.mp4: not a video that can be opened" in str(fuse_films(client, stream, sound)["problem"])


def test_a_film_that_cannot_be_written_is_not_called_by_a_path(client: TestClient, tmp_path: Path) -> None:  # noqa: F811
    unstamped = film(tmp_path / "day.avi", [DAY] * 3)  # H.264 with frames out of order, in a container without stamps
    problem = str(fuse_films(client, unstamped, film(tmp_path / "heat.mp4", [HEAT] * 3)).get("problem", ""))
    assert "/" not in problem


def test_a_long_video_is_cut_and_that_is_said(client: TestClient, tmp_path: Path) -> None:  # noqa: F811
    day, heat = (
        film(tmp_path / name, [picture[:32, :32]] * 215) for name, picture in (("d.mp4", DAY), ("h.mp4", HEAT))
    )
    facts = fuse_films(client, day, heat, align="none")["facts"]
    assert (facts["frames"], facts["length"]) == ("200", "the first 20 of 22 seconds")  # type: ignore[index]


def test_misaligned_videos_are_refused_in_the_pages_words_and_brought_together(
    client: TestClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    day = film(tmp_path / "day.mp4", [DAY] * 3)
    shifted = film(tmp_path / "shifted.mp4", [np.roll(HEAT, 14, axis=1)] * 3)
    problem = str(fuse_films(client, day, shifted)["problem"])
    assert "day.mp4" in problem and "“align” brings them together" in problem and "--" not in problem
    facts = fuse_films(client, day, shifted, align="shift")["facts"]
    assert facts["length"] == "0.3 seconds"  # type: ignore[index]
    small = film(tmp_path / "small.mp4", [HEAT[::2, ::2]] * 3)
    assert "“scale to one size” scales" in str(fuse_films(client, day, small)["problem"])
    assert "facts" in fuse_films(client, day, small, resize="true")


def test_no_message_names_an_option_or_a_path_that_the_page_lacks(client: TestClient) -> None:  # noqa: F811
    assert "--" not in str(fuse(client, png(VISIBLE), png(INFRARED), align="x")["problem"])
    film = give(client, b"\0\0\0\x20ftypisom" + bytes(64), "day.mp4")
    assert client.get(f"/picture/{film}").json()["problem"].startswith("day.mp4: not an image")
    shelf = Shelf()
    bench = Workbench(shelf, {"mine": "nano"})
    exported = shelf.folder / "exported" / "0-onnx"
    exported.mkdir(parents=True)
    for family, file in (("dense", "model.onnx"), ("edge", "gone.onnx")):
        described = {"format": FORMAT, "engine": "onnx", "file": file, "family": family}
        described |= {"precision": "fp32", "weights_sha256": "0"}
        (exported / "export.json").write_text(json.dumps(described))
        (exported / "model.onnx").write_bytes(b"")
        with pytest.raises(InputError) as refused:
            bench.borrow(Choice(weights="mine", engine="onnx", tile=256), lambda fuser: None)
        assert "--" not in str(refused.value) and str(shelf.folder) not in str(refused.value)
    shelf.close()


def test_images_of_two_sizes_are_scaled_when_asked(client: TestClient) -> None:  # noqa: F811
    problem = str(fuse(client, png(DAY), png(HEAT[::2, ::2, 0]))["problem"])
    assert "“scale to one size”" in problem and "--" not in problem
    answer = fuse(client, png(DAY), png(HEAT[::2, ::2, 0]), resize="true")
    assert (answer["width"], answer["height"]) == (128, 96)
    assert answer["sources"][1]["name"] == "heat scaled.png"  # type: ignore[index]
