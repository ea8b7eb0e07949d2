"""What the demo offers to look at while other things happen: stores that are damaged or grow, benchmarks that go."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="starlette's test client needs httpx: pip install 'fusioncli[server]'")

from starlette.testclient import TestClient

from fusion.demo.app import DemoOptions, build_app
from fusion.demo.samples import list_samples
from fusion.demo.serving import _address, choose_reports, choose_stores
from fusion.demo.shelf import Shelf
from fusion.demo.workbench import Choice, Workbench
from fusion.inference import Fuser
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.errors import StoreError
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from pipeline.store import Store
from pipeline.synth import draw_pairs
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


def test_a_store_made_anew_or_taken_away_is_noticed(tmp_path: Path, drawn_store: Path) -> None:  # noqa: F811
    place = tmp_path / "store"
    shutil.copytree(drawn_store, place)
    shelf = Shelf()
    app = build_app(DemoOptions(weights={"edge": "edge"}, stores=[str(place)]), shelf)
    with TestClient(app, base_url="http://localhost:7860") as one:
        before = one.get("/api/store/0").json()["pairs"]
        draw_pairs(tmp_path / "synthetic", 3, 99, height=48, width=64)
        manifest = load_manifest("synthetic")
        source = Source(manifest=manifest, pairs=find_pairs(manifest, tmp_path), root=tmp_path)
        shutil.rmtree(place)
        caption_pairs(CaptionOptions(store=str(place), captioner="measured", embedder="hashing", workers=1), source)
        after = one.get("/api/store/0").json()["pairs"]
        said = {row["key"]: row["caption"] for row in Store.open(place).rows("text", ["key", "caption"]).to_pylist()}
        assert {pair["key"]: pair["caption"] for pair in after} == said
        assert before != after
        shutil.rmtree(place)
        assert "no store here" in one.get("/api/store/0").json()["problem"]
    shelf.close()


def test_weights_of_a_later_training_are_loaded_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pair = [rng.integers(0, 256, size, np.uint8) for size in ((48, 64, 3), (48, 64))]
    shelf = Shelf()
    bench = Workbench(shelf, {"mine": str(tmp_path / "w")})
    fused = {}
    for name in ("edge", "nano"):
        Fuser.from_pretrained(name).save_pretrained(tmp_path / "w")
        for engine in ("torch", "torchscript"):
            fused[name, engine] = bench.borrow(Choice(weights="mine", engine=engine), lambda fuser: fuser(*pair))
        assert np.array_equal(fused[name, "torch"], Fuser.from_pretrained(name)(*pair))
        assert np.abs(fused[name, "torch"].astype(int) - fused[name, "torchscript"]).max() <= 1
    shelf.close()


def test_a_sample_that_has_gone_is_one_sentence(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "synthetic", 1, 0, height=48, width=64)
    samples = list_samples((tmp_path / "synthetic" / "vi", tmp_path / "synthetic" / "ir"))
    next((tmp_path / "synthetic" / "ir").iterdir()).unlink()
    shelf = Shelf()
    with TestClient(
        build_app(DemoOptions(weights={"edge": "edge"}, samples=samples), shelf), base_url="http://localhost:7860"
    ) as one:
        assert "no such file" in one.post("/api/sample/0").json()["problem"]
    assert not list(shelf.folder.iterdir()), "neither image stays"
    shelf.close()


@pytest.mark.parametrize("name", [116 * "x" + ".png", 300 * "x" + ".png"])
def test_a_long_name_keeps_its_ending(name: str) -> None:
    shelf = Shelf()
    assert shelf.place(name).name.endswith("x.png") and len(shelf.place(name).name) <= 120
    assert shelf.place(f"{Path(shelf.place(name).name).stem}-fused.png").name.endswith(".png")
    assert shelf.place("day.PNG").name == "day.PNG"
    shelf.close()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "localhost"),
        ("::", "localhost"),
        ("0.0.0.0", "localhost"),
        ("fe80::1", "[fe80::1]"),
        ("box", "box"),
    ],
)
def test_the_address_can_be_opened(host: str, address: str) -> None:
    assert _address(host) == address


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
