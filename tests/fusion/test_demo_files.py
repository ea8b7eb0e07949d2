"""Files on their way to the demo's server and back: odd formats, broken-off uploads, names thrown off the shelf."""

from __future__ import annotations

import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageCms

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx: pip install 'fusioncli[server]'")

from starlette.testclient import TestClient

from demo_server import running, until
from test_demo import (
    INFRARED,
    VISIBLE,
    client,  # noqa: F401 # a fixture, as is the next
    drawn_store,  # noqa: F401
    fuse,
    png,
    upload,
)


@pytest.mark.parametrize("shape", [(40, 56, 2), (40, 56, 4)])
@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".webp", ".tiff"])
def test_alpha_is_dropped_where_a_format_has_none(client: TestClient, shape: tuple[int, ...], suffix: str) -> None:  # noqa: F811
    visible = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
    answer = fuse(client, png(visible), png(INFRARED), weights="nano")
    response = client.get(f"/download/{answer['token']}", params={"format": suffix})
    kept = "A" in Image.open(io.BytesIO(response.content)).getbands()
    assert kept is (suffix in (".webp", ".tiff"))


def test_a_download_has_the_colour_profile_of_its_visible_image(client: TestClient) -> None:  # noqa: F811
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    visible = io.BytesIO()
    Image.fromarray(VISIBLE).save(visible, "PNG", icc_profile=profile)
    answer = fuse(client, visible.getvalue(), png(INFRARED), weights="nano")
    for suffix in (".png", ".jpg", ".webp", ".tiff"):
        response = client.get(f"/download/{answer['token']}", params={"format": suffix})
        assert Image.open(io.BytesIO(response.content)).info["icc_profile"] == profile


def test_a_side_that_a_format_cannot_hold_is_said(client: TestClient) -> None:  # noqa: F811
    token = upload(client, png(np.zeros((8, 20000), np.uint8)), "wide.png")["token"]
    response = client.get(f"/download/{token}", params={"format": ".webp"})
    assert response.status_code == 400
    assert response.json()["problem"] == "wide.png: 20000 x 8 pixels, and WEBP holds 16383 a side; choose png or tiff"


def test_a_file_that_is_not_there_is_no_download(client: TestClient) -> None:  # noqa: F811
    for path in ("/download/gone", "/picture/gone", "/video/gone"):
        response = client.get(path)
        assert response.status_code == 400 and "no longer here" in response.json()["problem"]


def test_downloads_at_once_are_whole(client: TestClient) -> None:  # noqa: F811
    answer = fuse(client, png(np.tile(VISIBLE, (20, 20, 1))), png(np.tile(INFRARED, (20, 20))), weights="nano")

    def size(_: int) -> tuple[int, int]:
        content = client.get(f"/download/{answer['token']}", params={"format": ".webp"}).content
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return image.size

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(size, range(12))) == {(1120, 800)}


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "--weights", "nano") as (address, _):
        with socket.create_connection(("127.0.0.1", urlsplit(address).port or 0)) as line:
            line.sendall(
                b"POST /api/upload?name=a.png HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nthe beginning"
            )
            until(lambda: list((tmp_path / "temporary").glob("fusioncli-demo-*/*.png")))
        until(lambda: not list((tmp_path / "temporary").glob("fusioncli-demo-*/*.png")), 15)
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "path",
    ["/api/fuse?tile={}", "/api/store/0?page={}", "/api/store/{}", "/api/sample/{}", "/report/{}", "/store/0/{}/a"],
)
def test_a_number_of_thousands_of_digits_is_no_traceback(client: TestClient, path: str) -> None:  # noqa: F811
    if "tile" in path:
        tokens = [upload(client, png(picture), "a.png")["token"] for picture in (VISIBLE, INFRARED)]
        path += f"&first={tokens[0]}&second={tokens[1]}"
    response = client.request("POST" if "tile" in path or "sample" in path else "GET", path.format("9" * 5000))
    assert response.status_code in (200, 400)
    assert "problem" in response.json() or response.json()["page"] == 0
