"""What the demo offers to look at while other things happen: stores that are damaged or grow, benchmarks that go."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx: pip install 'fusioncli[server]'")

from starlette.testclient import TestClient

from fusion.demo.app import DemoOptions, build_app
from fusion.demo.serving import choose_reports, choose_stores
from fusion.demo.shelf import Shelf
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.errors import StoreError
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from test_demo import (
    client,  # noqa: F401 # a fixture, as is the next
    drawn_store,  # noqa: F401
)


def test_a_damaged_store_that_nobody_named_is_left_out(
    tmp_path: Path,
    drawn_store: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn_store, tmp_path / "stores" / "sound")
    (tmp_path / "stores" / "broken").mkdir()
    (tmp_path / "stores" / "broken" / "store.json").write_text("{")
    assert choose_stores() == ["stores/sound"]
    shelf = Shelf()
    with pytest.raises(StoreError, match="not valid JSON"):
        build_app(DemoOptions(weights={"edge": "edge"}, stores=["stores/broken"]), shelf)
    shelf.close()


def test_a_prior_that_is_finished_later_appears(tmp_path: Path, drawn_store: Path) -> None:  # noqa: F811
    shutil.copytree(drawn_store, tmp_path / "store")
    shelf = Shelf()
    app = build_app(DemoOptions(weights={"edge": "edge"}, stores=[str(tmp_path / "store")]), shelf)
    with TestClient(app, base_url="http://localhost:7860") as one:
        assert one.get("/api/store/0").json()["priors"] == ["text"]
        root, manifest = drawn_store.parent, load_manifest("synthetic")
        source = Source(manifest=manifest, pairs=find_pairs(manifest, root), root=root)
        again = CaptionOptions(
            store=str(tmp_path / "store"), captioner="measured", embedder="hashing", workers=1, prior="later"
        )
        caption_pairs(again, source)
        assert one.get("/api/store/0").json()["priors"] == ["later", "text"]
        assert one.get("/api/store/0", params={"prior": "later"}).json()["pairs"][0]["caption"]
    shelf.close()


def test_past_the_last_page_is_the_last_page(client: TestClient) -> None:  # noqa: F811
    answer = client.get("/api/store/0", params={"page": 7}).json()
    assert (answer["page"], answer["pages"], len(answer["pairs"])) == (1, 2, 2)


def test_two_benchmarks_of_one_folder_are_both_shown_and_one_that_goes_is_said(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        (tmp_path / name).write_text(name)
    reports = choose_reports([tmp_path / "a.html", tmp_path / "b.html"])
    assert list(reports) == [str(tmp_path / "a.html"), str(tmp_path / "b.html")]
    shelf = Shelf()
    app = build_app(DemoOptions(weights={"edge": "edge"}, reports=reports), shelf)
    with TestClient(app, base_url="http://localhost:7860") as one:
        assert [one.get(f"/report/{number}").text for number in (0, 1)] == ["a.html", "b.html"]
        (tmp_path / "b.html").unlink()
        gone = one.get("/report/1")
        assert gone.status_code == 400 and "b.html: the benchmark's page is no longer there" in gone.json()["problem"]
    shelf.close()
