"""Damaged small files of a store: said in one sentence, never a traceback, and mended by the same command run again."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.scripted import ScriptedCaptioner
from pipeline.errors import StoreError
from pipeline.events import Caption
from pipeline.inspection import describe_store
from pipeline.shards import open_table
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption, contents

MARKER = "priors/text/shard-000001.json"
WRONG_MARKERS = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"files": 3}',
    b'{"shard": 1, "rows": 2, "ok": 2, "failed": "no", "errors": {}, "unknown_labels": {}, "files": {}}',
    b'{"shard": 1, "rows": 2, "ok": 2, "failed": 0, "errors": 5, "unknown_labels": {}, "files": {}}',
    b'{"shard": 1, "rows": 2, "ok": 2, "failed": 0, "errors": {}, "unknown_labels": {"a": "b"}, "files": {}}',
    b'{"shard": 1, "rows": 2, "ok": 2, "failed": 0, "errors": {}, "unknown_labels": {}, "files": {"a": 1}}',
]


@pytest.mark.parametrize("content", WRONG_MARKERS)
def test_a_damaged_marker_is_named_and_made_again_with_its_captions_kept(
    tmp_path: Path, draw_pairs: Any, content: bytes
) -> None:
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=2)
    before = contents(tmp_path / "s")
    (tmp_path / "s" / MARKER).write_bytes(content)
    store = Store.open(tmp_path / "s")
    with pytest.raises(StoreError, match="shard-000001.json: damaged"):
        describe_store(store)
    assert any(MARKER in problem for problem in verify(store).problems)
    # Its pairs would fail if they were captioned again.
    summary = caption(tmp_path / "s", folders, shard_size=2, do_stop_at="p0002")
    assert (summary.done, summary.failed) == (3, 0)
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"time": "noon"}', b'{"time": NaN}', b"\xff"])
def test_a_damaged_log_of_the_plan_only_means_that_every_file_is_looked_at(
    tmp_path: Path, draw_pairs: Any, content: bytes
) -> None:
    first, second = draw_pairs(2)
    caption(tmp_path / "s", (first, second))
    (tmp_path / "s/logs/planned.json").write_bytes(content)
    assert caption(tmp_path / "s", (first, second)).done == 1
    path = second / "p0001.png"
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(path, (times.st_atime, 0))  # old, and of the same size
    with pytest.raises(StoreError, match="p0001.png: sha256 was"):
        caption(tmp_path / "s", (first, second))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"captioner": {"name": "x"}, "embedder": 3}', b'{"captioner": [], "embedder": {}}']
)
def test_a_damaged_fingerprint_is_one_sentence(tmp_path: Path, draw_pairs: Any, content: bytes) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    (tmp_path / "s/priors/text/fingerprint.json").write_bytes(content)
    store = Store.open(tmp_path / "s")
    for ask in (describe_store, Store.rows):
        with pytest.raises(StoreError, match="fingerprint.json: damaged"):
            ask(store)
    with pytest.raises(StoreError, match="fingerprint.json: damaged"):
        caption(tmp_path / "s", folders)
    assert any("fingerprint.json" in problem for problem in verify(store).problems)


def test_what_verify_names_is_mended_by_taking_it_away(tmp_path: Path, draw_pairs: Any) -> None:
    """As the command says: the damaged file is removed, and the same command run again."""
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=2)
    before = contents(tmp_path / "s")
    for name in ("images/shard-000001.tar", "priors/text/shard-000001.parquet", MARKER):
        path = tmp_path / "s" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert verify(Store.open(tmp_path / "s")).problems
        path.unlink()
        caption(tmp_path / "s", folders, shard_size=2)
        assert contents(tmp_path / "s") == before
        assert json.loads((tmp_path / "s" / MARKER).read_text())["rows"] == 2


def test_verify_says_what_to_do(tmp_path: Path, draw_pairs: Any, fusioncli: Any) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    assert "remove" not in fusioncli("store", "verify", str(tmp_path / "s")).stdout
    (tmp_path / "s/priors/text/shard-000000.json").write_text("{}")
    done = fusioncli("store", "verify", str(tmp_path / "s"))
    assert done.returncode == 1
    assert "remove the damaged files and run the same `fusioncli caption` again" in done.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"splits": None},
        {"splits": []},
        {"splits": {"train": "two"}},
        {"splits": {"train": 1}},
        {"splits": {"train": 3, "test": -1}},
        {"pairs": 10**30, "shards": 10**30, "shard_size": 1, "splits": {"train": 10**30}},
        {"pairs": True, "shards": True, "shard_size": True, "splits": {"train": 1}},
        {"limit": "two"},
        {"limit": 0},
        {"limit": True},
    ],
)
def test_a_header_of_impossible_values_is_one_sentence(
    tmp_path: Path, draw_pairs: Any, change: dict[str, object]
) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    file = tmp_path / "s/store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    for ask in (Store.open, lambda store: caption(store, folders)):
        with pytest.raises(StoreError, match=r"store\.json: damaged: a field has an impossible value"):
            ask(tmp_path / "s")


@pytest.mark.parametrize("damage", ["header", "pixels", "cut"])
def test_a_damaged_tar_that_is_decoded_ahead_is_made_again_from_the_sources(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """A captioner of whole shards has the next one decoded while it works; what it is shown are the planned images."""
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    before = contents(tmp_path / "s")
    for ending in ("parquet", "json"):
        for shard in (0, 1):
            (tmp_path / f"s/priors/text/shard-{shard:06d}.{ending}").unlink()
    tar = tmp_path / "s/images/shard-000001.tar"
    content = bytearray(tar.read_bytes())
    content[{"header": 3, "pixels": 512 + 200, "cut": 0}[damage]] ^= 1
    tar.write_bytes(content[:700] if damage == "cut" else content)
    shown: list[bytes] = []

    def caption_shard(self: ScriptedCaptioner, requests: Sequence[CaptionRequest]) -> list[Caption]:
        shown.extend(request.first.pixels.tobytes() for request in requests)
        return [self._one(request) for request in requests]

    monkeypatch.setattr(ScriptedCaptioner, "caption", caption_shard)
    assert caption(tmp_path / "s", folders, shard_size=2).failed == 0
    assert contents(tmp_path / "s") == before
    assert shown == [np.asarray(Image.open(path)).tobytes() for path in sorted(folders[0].iterdir())]


def test_a_table_is_read_by_nobody_but_its_caller(tmp_path: Path, draw_pairs: Any) -> None:
    """Arrow's threads go on reading after an error; one that does so while Python ends aborts the process."""
    store = tmp_path / "s"
    caption(store, draw_pairs(4), shard_size=4)
    readers: set[int] = set()

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            readers.add(threading.get_ident())
            return super().read(size)

    content = bytearray((store / "priors/text/shard-000000.parquet").read_bytes())
    assert open_table(Watched(content), "whole").read().num_rows == 4
    content[300:364] = bytes(64)
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        open_table(Watched(content), "damaged").read()
    assert readers == {threading.get_ident()}
