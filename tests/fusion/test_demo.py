"""The demo's server without a browser: what it fuses, what it refuses, and that it hands out nothing else."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx: pip install 'fusioncli[server]'")

from starlette.testclient import TestClient

from fusion import Fuser
from fusion.demo.app import DemoOptions, build_app
from fusion.demo.samples import list_samples
from fusion.demo.serving import Offer, choose_reports, choose_weights, serve
from fusion.demo.shelf import Shelf
from fusion.weights import shipped_names
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.errors import InputError, WeightsError
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from pipeline.synth import draw_pair, draw_pairs


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


rng = np.random.default_rng(3)
VISIBLE = rng.integers(0, 256, (40, 56, 3), np.uint8)
INFRARED = rng.integers(0, 256, (40, 56), np.uint8)


@pytest.fixture(scope="module")
def drawn_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_pairs(root / "synthetic", 14, 1, height=48, width=64)
    manifest = load_manifest("synthetic")
    source = Source(manifest=manifest, pairs=find_pairs(manifest, root), root=root)
    options = CaptionOptions(store=str(root / "store"), captioner="measured", embedder="hashing", workers=1)
    caption_pairs(options, source)
    return root / "store"


def film(path: Path, frames: list[np.ndarray]) -> bytes:
    """An MP4 of ten frames a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.fixture(scope="module")
def client(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    report = tmp_path_factory.mktemp("bench") / "index.html"
    report.write_text("<p>a benchmark</p>")
    (report.parent / "secret.csv").write_text("not for the page")
    options = DemoOptions(
        weights={"edge": "edge", "nano": "nano"},
        samples=list_samples(None),
        stores=[str(drawn_store)],
        reports={"bench": report},
        limit_mib=1,
    )
    shelf = Shelf()
    with TestClient(build_app(options, shelf), base_url="http://localhost:7860") as one:
        yield one
    shelf.close()
    assert not shelf.folder.exists()


def upload(client: TestClient, content: bytes, name: str) -> dict[str, object]:
    return dict(client.post("/api/upload", params={"name": name}, content=content).json())


def fuse(client: TestClient, first: bytes, second: bytes, **choice: object) -> dict[str, object]:
    tokens = {
        "first": upload(client, first, "day.png")["token"],
        "second": upload(client, second, "heat.png")["token"],
    }
    return dict(client.post("/api/fuse", params={**tokens, **choice}).json())


@pytest.mark.parametrize("tile", [0, 256])
def test_the_page_fuses_as_the_library_does(client: TestClient, tile: int) -> None:
    answer = fuse(client, png(VISIBLE), png(INFRARED), weights="nano", tile=tile)
    content = client.get(f"/picture/{answer['token']}").content
    shown = np.asarray(Image.open(io.BytesIO(content)))
    expected = Fuser.from_pretrained("nano")(VISIBLE, INFRARED)
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1
    assert (answer["width"], answer["height"]) == (56, 40)
    assert set(answer["scores"]) == {"VIF", "Qabf", "SSIM", "EN", "SF", "AG"}  # type: ignore[call-overload]


def test_a_shifted_pair_is_refused_and_brought_together(client: TestClient) -> None:
    pair = draw_pair(5, 1, 160, 200)
    visible = np.rint(pair.clean_visible * 255).astype(np.uint8)
    infrared = np.roll(np.rint(pair.clean_infrared * 255).astype(np.uint8), 14, axis=1)
    assert "align" in str(fuse(client, png(visible), png(infrared))["problem"])
    whole = fuse(client, png(visible), png(infrared), align="none")
    assert whole["width"] == 200 and whole["sources"][0]["name"] == "day.png"  # type: ignore[index]
    moved = fuse(client, png(visible), png(infrared), align="shift")
    assert 180 <= moved["width"] < 200  # type: ignore[operator]
    first = client.get(f"/picture/{moved['sources'][0]['token']}").content  # type: ignore[index]
    assert Image.open(io.BytesIO(first)).size == (moved["width"], moved["height"])


def test_another_engine_gives_the_same_picture(client: TestClient) -> None:
    answer = fuse(client, png(VISIBLE), png(INFRARED), weights="nano", engine="torchscript")
    shown = np.asarray(Image.open(io.BytesIO(client.get(f"/picture/{answer['token']}").content)))
    expected = Fuser.from_pretrained("nano")(VISIBLE, INFRARED)
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), (".tiff", "TIFF")])
def test_downloads_in_every_format(client: TestClient, suffix: str, kind: str) -> None:
    answer = fuse(client, png(VISIBLE), png(INFRARED))
    response = client.get(f"/download/{answer['token']}", params={"format": suffix})
    assert f'filename="day-fused{suffix}"' in response.headers["content-disposition"]
    assert Image.open(io.BytesIO(response.content)).format == kind


def test_what_cannot_be_fused_is_said_in_the_users_words(client: TestClient) -> None:
    assert "notes.png: not an image" in str(upload(client, b"just text", "notes.png")["problem"])
    assert "empty" in str(upload(client, b"", "nothing.png")["problem"])
    sizes = fuse(client, png(VISIBLE), png(INFRARED[:30]))["problem"]
    assert "day.png is 56 x 40" in str(sizes) and "heat.png is 56 x 30" in str(sizes)
    swapped = fuse(client, png(INFRARED), png(VISIBLE))["problem"]
    assert "heat.png: a colour image" in str(swapped) and "swapped" in str(swapped)
    for choice in ({"weights": "/etc"}, {"engine": "abacus"}, {"tile": 3}, {"tile": "x"}, {"align": "x"}):
        assert re.search("no |expected one of", str(fuse(client, png(VISIBLE), png(INFRARED), **choice)["problem"]))


def test_large_images_and_large_files_are_refused(client: TestClient) -> None:
    flat = png(np.zeros((8000, 8000), np.uint8))
    assert "8000 x 8000 pixels" in str(upload(client, flat, "huge.png")["problem"])
    response = client.post("/api/upload", params={"name": "long.png"}, content=bytes(2**20 + 1))
    assert response.status_code == 413
    assert "over 1 MiB" in response.json()["problem"]
    lied = client.post("/api/upload", content=iter([bytes(2**19)] * 3))  # no length announced
    assert lied.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/demo.py", "/app.py", "/picture/..%2f..%2fetc%2fpasswd",
        "/picture/nothing", "/download/nothing", "/report/1", "/report/0/secret.csv", "/report/..%2fsecret.csv",
        "/store/0/0/..%2f..%2fstore.json", "/store/0/2/anything", "/store/9/0/anything", "/api/store/9", "/secret.csv",
    ],
)  # fmt: skip
def test_no_other_file_is_handed_out(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code in (404, 400) or "problem" in response.json()


def test_an_upload_cannot_choose_where_it_lies(client: TestClient, tmp_path: Path) -> None:
    answer = upload(client, png(VISIBLE), f"{tmp_path}/../../evil/../x.png")
    assert answer["name"] == "x.png"
    assert not list(tmp_path.parent.rglob("x.png"))


def test_other_sites_and_other_names_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 400
    for origin in ("https://other.example", "null", "http://[no", "http://localhost:7860.example"):
        assert client.post("/api/upload", content=b"x", headers={"origin": origin}).status_code == 403
    assert client.get("/", headers={"origin": "http://localhost:7860"}).status_code == 200


def test_the_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/demo.js", "/demo.css", "/report.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "http:" not in response.text and "https:" not in response.text
    report = client.get("/report/0")
    assert report.text == "<p>a benchmark</p>"
    assert "sandbox" in report.headers["content-security-policy"]


def test_a_store_is_browsed_by_page_event_and_prior(client: TestClient) -> None:
    first, second = (client.get("/api/store/0", params={"page": page}).json() for page in (0, 1))
    assert (len(first["pairs"]), len(second["pairs"]), first["pages"]) == (12, 2, 2)
    assert first["priors"] == ["text"]
    label = first["labels"][0]
    chosen = client.get("/api/store/0", params={"event": label}).json()
    assert 0 < chosen["total"] <= 14
    assert all(label in [event["type"] for event in pair["events"]] for pair in chosen["pairs"])
    assert all(pair["caption"] for pair in chosen["pairs"])
    picture = client.get(f"/store/0/1/{first['pairs'][0]['key']}")
    assert Image.open(io.BytesIO(picture.content)).size == (64, 48)
    assert "no finished prior" in client.get("/api/store/0", params={"prior": "../x"}).json()["problem"]


def test_samples_come_as_two_images(client: TestClient) -> None:
    first, second = client.post("/api/sample/0").json()
    assert (first["width"], first["height"]) == (second["width"], second["height"])
    assert "visible" in first["name"] and "infrared" in second["name"]
    assert "no sample" in client.post("/api/sample/99").json()["problem"]


def test_two_folders_give_samples(drawn_store: Path) -> None:
    folder = drawn_store.parent / "synthetic"
    titles = [sample.title for sample in list_samples((folder / "vi", folder / "ir"))]
    assert titles[0].startswith("test-") and titles[-1] == "drawn street 4"
    assert len(titles) == 18


def test_the_shelf_forgets_the_oldest(tmp_path: Path) -> None:
    shelf = Shelf(kept=2)
    items = [shelf.place(f"{number}.png") for number in range(3)]
    for item in items[1:]:
        item.path.write_bytes(b"x")
    assert shelf.find(items[2].token).name == "2.png"
    with pytest.raises(InputError, match="no longer here"):
        shelf.find(items[0].token)
    shelf.close()


@pytest.mark.parametrize(("host", "advice"), [("192.0.2.1", "no address of this machine"), ("300.1.1.1", "no address")])
def test_an_address_that_is_not_ours_is_refused(host: str, advice: str) -> None:
    """192.0.2.0/24 is set aside for examples (RFC 5737)."""
    with pytest.raises(InputError, match=f"--host {host}: {advice}"):
        serve(Offer(host=host, port=0))


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: .* choose another --port"):
            serve(Offer(port=port))


def test_what_the_page_offers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Fuser.from_pretrained("nano").save_pretrained(tmp_path / "runs" / "mine-student")
    offered = list(choose_weights(()))
    assert offered[0] == "edge" and sorted(offered) == sorted([*shipped_names(), "runs/mine-student"])
    assert list(choose_weights(["nano"])) == ["nano"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="a file where"):
        choose_weights(["file"])
    with pytest.raises(WeightsError, match="no weights at 'egde'.*edge"):
        choose_weights(["egde"])
    assert list(choose_weights(["somebody/nano"])) == ["somebody/nano"], "fetched when it is chosen"
    assert choose_reports(()) == {}
    (tmp_path / "bench").mkdir()
    with pytest.raises(InputError, match=r"bench/index\.html: no such file"):
        choose_reports([Path("bench")])
    (tmp_path / "bench" / "index.html").write_text("")
    assert choose_reports(()) == {"bench": tmp_path / "bench" / "index.html"}


def test_two_videos_become_one(client: TestClient, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="videos need PyAV: pip install 'fusioncli[video]'")
    pair = draw_pair(5, 1, 64, 96)
    visible = np.rint(pair.clean_visible * 255).astype(np.uint8)
    infrared = np.rint(np.repeat(pair.clean_infrared[..., None], 3, axis=2) * 255).astype(np.uint8)
    tokens = {}
    for name, picture in (("first", visible), ("second", infrared)):
        frames = [np.roll(picture, step, axis=1) for step in range(5)]
        content = film(tmp_path / f"{name}.mp4", frames)
        answer = client.post("/api/upload", params={"name": f"{name}.mp4", "kind": "video"}, content=content).json()
        tokens[name] = answer["token"]
    answer = client.post("/api/video", params={**tokens, "weights": "nano"}).json()
    assert answer["facts"]["frames"] == "5"
    content = client.get(f"/video/{answer['token']}").content
    with av.open(io.BytesIO(content)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 5 and shown[0].shape == (64, 96, 3)
    expected = Fuser.from_pretrained("nano")(visible, infrared[..., 0])
    assert np.abs(shown[0].astype(int) - expected.astype(int)).mean() < 12  # two lossy codecs in between
    picture = upload(client, png(VISIBLE), "day.png")
    assert "not a fused video" in client.get(f"/video/{picture['token']}").json()["problem"]


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n", b""]
)
def test_a_playlist_is_no_video(client: TestClient, content: bytes) -> None:
    answer = client.post("/api/upload", params={"name": "list.mp4", "kind": "video"}, content=content).json()
    assert "list.mp4: not an MP4" in answer["problem"]
