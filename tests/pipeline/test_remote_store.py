"""A store on an object store, over the real S3 protocol, is the same store."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from command_line import Run
from object_store import served_bucket
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.claims import Claims
from pipeline.errors import FingerprintMismatch, InputError, MissingPackage, StoreError
from pipeline.place import place
from pipeline.sources import find_source
from pipeline.store import Store
from pipeline.verify import verify


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served_bucket(monkeypatch) as home:
        yield f"{home}/stores/a"


def caption(store: str, folders: tuple[Path, Path], **settings: str) -> None:
    options = CaptionOptions(
        store=store, captioner="scripted", embedder="hashing", shard_size=4, workers=1, captioner_settings=settings
    )
    caption_pairs(options, find_source(None, folders, None, None, store))


def everything(location: str | Path, folder: str = "") -> dict[str, bytes]:
    home = place(location)
    names = ["store.json", "manifest.json", "plan.parquet", "README.md"]
    names += [f"{sub}/{name}" for sub in ("images", "priors/text") for name in home.list(sub)]
    return {name: home.read(name) for name in names}


def test_the_bytes_are_those_of_a_local_store(bucket: str, tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(10)
    caption(bucket, folders)
    caption(str(tmp_path / "local"), folders)
    caption((tmp_path / "by url").as_uri(), folders)
    assert everything(bucket) == everything(tmp_path / "local") == everything(tmp_path / "by url")
    store = Store.open(bucket)
    assert verify(store).problems == []
    assert store.image_bytes(store.plan()[5])[1] == (folders[1] / "p0005.png").read_bytes()
    assert store.rows()["key"].to_pylist() == [row.key for row in store.plan()]
    assert store.digest() == Store.open(tmp_path / "local").digest()


def test_it_resumes_and_refuses_there_too(bucket: str, tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(10)
    with pytest.raises(Exception, match="told to"):
        caption(bucket, folders, stop_at="p0006")
    assert Store.open(bucket).finished("text") == [0]
    with pytest.raises(FingerprintMismatch, match="captioner.model"):
        caption(bucket, folders, model="other")
    caption(bucket, folders)
    assert verify(Store.open(bucket)).problems == []


def test_claims_hold_there_too(bucket: str) -> None:
    mine, other = Claims(place(bucket)), Claims(place(bucket))
    assert mine.take(1)
    assert not other.take(1)
    mine.release(1)
    assert other.take(1)
    mine.close()
    other.close()


def test_a_missing_store_or_protocol_is_one_sentence(bucket: str) -> None:
    with pytest.raises(StoreError, match="no store here"):
        Store.open(bucket)
    with pytest.raises(MissingPackage, match="pip install adlfs"):
        Store.open("abfs://container/store")


def test_no_package_is_named_that_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme is not the name of a package, and what is called so could be anybody's."""
    for scheme, package in (("sftp", "paramiko"), ("oss", "ossfs")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingPackage) as caught:
            place(f"{scheme}://somewhere/x")
        assert f"pip install {scheme}" not in str(caught.value)
    pytest.importorskip("requests")
    with pytest.raises(InputError, match="not a place this program can reach"):
        place("github://a/b")


def test_a_bucket_without_credentials_is_one_sentence(fusioncli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    done = fusioncli("store", "show", "s3://some-bucket/x")
    assert done.returncode == 1
    assert "fusioncli: the object store: Unable to locate credentials" in done.stderr and "Traceback" not in done.stderr


class Web(SimpleHTTPRequestHandler):
    """Files, always whole; from the ``fails_from``-th answer on it stops in the middle."""

    asked, fails_from, url = 0, 10**9, ""

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.asked < self.fails_from:
            super().do_GET()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def web(tmp_path: Path) -> Iterator[type[Web]]:
    class Here(Web):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Here, directory=str(tmp_path)))
    Here.url = f"http://127.0.0.1:{server.server_port}/s"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Here
    server.shutdown()


def test_a_web_server_that_sends_no_parts_is_one_sentence(web: type[Web], tmp_path: Path, draw_pairs: Any) -> None:
    caption(str(tmp_path / "s"), draw_pairs(3))
    store = Store.open(web.url)
    assert store.rows()["key"].to_pylist() == ["p0000", "p0001", "p0002"]
    with pytest.raises(StoreError, match="sends no part of a file by itself"):
        store.image_bytes(store.plan()[1])


def test_a_web_server_that_breaks_off_is_one_sentence(
    web: type[Web], tmp_path: Path, draw_pairs: Any, fusioncli: Run
) -> None:
    caption(str(tmp_path / "s"), draw_pairs(3))
    web.fails_from = 3
    done = fusioncli("store", "show", web.url)
    assert done.returncode == 1
    assert done.stderr.startswith("fusioncli: the object store: ") and done.stderr.count("\n") == 1, done.stderr
