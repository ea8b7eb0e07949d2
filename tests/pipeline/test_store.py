"""A store holds every pair exactly once, reads back what went in, and says so when it does not."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, PairingError, StoreError
from pipeline.inspection import describe_pair, describe_store
from pipeline.shards import Member, tar_header
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption, contents


def test_what_goes_in_comes_out(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(10)
    summary = caption(tmp_path / "s", folders, shard_size=4)
    store = Store.open(tmp_path / "s")
    assert (summary.pairs, summary.failed, summary.done, store.header.shards) == (10, 0, 3, 3)
    assert verify(store).problems == []
    plan = store.plan()
    assert [row.shard for row in plan] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    for row in plan:
        first, second = store.image_bytes(row)
        assert first == (folders[0].parent / row.first).read_bytes()
        assert second == (folders[0].parent / row.second).read_bytes()
        assert (row.height, row.width) == (24, 32)
    table = store.rows()
    assert table["key"].to_pylist() == [row.key for row in plan]
    assert table["pair_id"].to_pylist() == [row.pair_id for row in plan]
    vectors = np.array(table["text_embedding"].to_pylist(), dtype=np.float32)
    assert vectors.shape == (10, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert store.rows(columns=["events", "status"]).column_names == ["events", "status"]


def test_the_bytes_depend_on_the_pairs_alone(tmp_path: Path, draw_pairs: Any) -> None:
    first = draw_pairs(9)
    caption(tmp_path / "a", first, shard_size=4)
    moved = tmp_path / "elsewhere"
    shutil.copytree(first[0].parent, moved)
    for path in moved.rglob("*.png"):
        path.touch()
    caption(tmp_path / "b", (moved / "vi", moved / "ir"), shard_size=4, workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_other_programs_read_it(tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = draw_pairs(5)
    caption(tmp_path / "s", folders, shard_size=3)
    plan = Store.open(tmp_path / "s").plan()
    with tarfile.open(tmp_path / "s/images/shard-000000.tar") as archive:
        assert [m.name for m in archive][:2] == ["p0000.visible.png", "p0000.infrared.png"]
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in archive} == {(0, 0, 0, 0o644)}
        extracted = archive.extractfile("p0001.infrared.png")
        assert extracted is not None
        assert extracted.read() == (folders[1] / "p0001.png").read_bytes()
    assert pq.read_table(tmp_path / "s/plan.parquet").num_rows == 5

    import webdataset

    tars = [str(path) for path in sorted((tmp_path / "s/images").glob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [row.key for row in plan]
    assert hashlib.sha256(samples[4]["visible.png"]).hexdigest() == plan[4].first_sha256

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "s/priors/text/*.parquet"), cache_dir=str(tmp_path / "hf"), split="train"
    )
    assert rows["key"][:] == [row.key for row in plan]


def test_the_card_is_complete_and_load_dataset_follows_it(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets", reason="the card is read by datasets: pip install datasets")
    caption(tmp_path / "s", draw_pairs(5), shard_size=3)
    plan = Store.open(tmp_path / "s").plan()

    def load(config: str) -> Any:
        return datasets.load_dataset(str(tmp_path / "s"), config, split="train", cache_dir=str(tmp_path / "hf"))

    assert load("text")["key"][:] == load("plan")["key"][:] == [row.key for row in plan]
    tars = str(tmp_path / "s" / "images" / "*.tar")
    images = datasets.load_dataset("webdataset", data_files=tars, split="train", cache_dir=str(tmp_path / "hf"))
    first = images[0]
    assert first["__key__"] == plan[0].key
    assert (first["visible.png"].height, first["visible.png"].width) == (plan[0].height, plan[0].width)

    from huggingface_hub import DatasetCard

    card = DatasetCard.load(tmp_path / "s" / "README.md")
    described = card.data.to_dict()
    assert described["license"] == "other" and described["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in described["configs"]] == ["text", "plan"]
    for heading in ("Reading it", "How it was made", "Limits", "Terms"):
        assert f"\n## {heading}\n" in card.text
    named = set(load("text").column_names)
    assert named == {
        name for line in re.findall(r"^\| `([a-z_, ]+)` \|", card.text, re.MULTILINE) for name in line.split(", ")
    }


@pytest.mark.parametrize("prior", ["2025-01-01", "no", "100"])
def test_a_prior_may_be_called_like_a_date_or_a_number(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch, prior: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = pytest.importorskip("datasets", reason="the card is read by datasets: pip install datasets")
    caption(tmp_path / "s", draw_pairs(2), prior=prior)
    loaded = datasets.load_dataset(str(tmp_path / "s"), prior, split="train", cache_dir=str(tmp_path / "hf"))
    assert loaded["key"][:] == [row.key for row in Store.open(tmp_path / "s").plan()]


@pytest.mark.parametrize(("name", "size"), [("p.visible.png", 1), ("x" * 96 + ".png", 8**11 - 1), ("a-b_C.ir.webp", 0)])
def test_a_tar_header_is_the_one_that_pythons_tarfile_writes(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    assert tar_header(Member(name=name, offset=0, size=size)) == info.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("ü.png", 1), ("p.png", 8**11)])
def test_what_does_not_fit_a_tar_header_is_refused(name: str, size: int) -> None:
    with pytest.raises(StoreError, match="does not fit"):
        tar_header(Member(name=name, offset=0, size=size))


def test_failed_pairs_are_rows_with_a_kind(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(40)
    summary = caption(tmp_path / "s", folders, shard_size=16, do_fail=0.2, do_lie=0.2, do_odd=0.3)
    rows = Store.open(tmp_path / "s").rows().to_pylist()
    bad = [row for row in rows if row["status"] == "failed"]
    assert len(rows) == 40
    assert len(bad) == summary.failed > 0
    assert set(summary.errors) == {"refused", "unparsable"}
    assert summary.unknown_labels["lens_flare"] > 0
    assert all(row["text_embedding"] is None and row["loss_weights"] is None and row["error"] for row in bad)
    assert any(row["raw_response"] == "I would rather talk about the weather." for row in bad)
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_retry_redoes_only_failed_rows(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(30)
    caption(tmp_path / "healthy", folders, shard_size=8)
    caption(tmp_path / "s", folders, shard_size=8, do_fail=0.3)
    before = Store.open(tmp_path / "s").rows().to_pylist()
    (tmp_path / "healed").touch()
    settings = {"do_fail": 0.3, "do_heal": tmp_path / "healed", "do_die_at": before[0]["key"]}
    assert caption(tmp_path / "s", folders, retry_failed=True, **settings).failed == 0
    after = Store.open(tmp_path / "s").rows().to_pylist()
    assert [a for a, b in zip(after, before, strict=True) if b["status"] == "ok"] == [
        b for b in before if b["status"] == "ok"
    ]
    assert contents(tmp_path / "s") == contents(tmp_path / "healthy")


def test_captions_are_frozen_under_another_embedder(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=4)
    before = contents(tmp_path / "s")
    shutil.rmtree(folders[0].parent)  # neither the source images nor a captioner are needed
    summary = caption(tmp_path / "s", None, captioner=None, embedder="hashing", embedder_settings={"width": "64"})
    store = Store.open(tmp_path / "s")
    assert summary.prior == "text-hashing"
    assert store.rows("text-hashing", ["caption"]) == store.rows("text", ["caption"])
    assert len(store.rows("text-hashing")["text_embedding"][0]) == 64
    assert {k: v for k, v in contents(tmp_path / "s").items() if k in before and k != "README.md"} == {
        k: v for k, v in before.items() if k != "README.md"
    }
    assert verify(store).problems == []


def test_the_only_finished_prior_is_embedded_anew_and_of_several_one_is_named(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(4)
    again: dict[str, Any] = {"captioner": None, "embedder": "hashing", "embedder_settings": {"width": "64"}}
    caption(tmp_path / "s", folders, prior="one")
    assert caption(tmp_path / "s", None, **again).prior == "one-hashing"
    assert caption(tmp_path / "s", None, **again).prior == "one-hashing", "which is none with captions of its own"
    with pytest.raises(InputError, match="--prior one: it is finished and never changed"):
        caption(tmp_path / "s", None, prior="one", **again)
    caption(tmp_path / "s", folders, prior="two", do_odd=1.0)
    with pytest.raises(InputError, match="several priors are finished, one, two: .* as --prior one-hashing"):
        caption(tmp_path / "s", None, prior="mine", **again)
    assert caption(tmp_path / "s", None, prior="two-hashing", **again).done == 1
    store = Store.open(tmp_path / "s")
    assert store.rows("two-hashing", ["caption"]) == store.rows("two", ["caption"]) != store.rows("one", ["caption"])
    assert verify(store).problems == []


def test_an_interrupted_commit_keeps_its_captions(tmp_path: Path, draw_pairs: Any) -> None:
    """Killed between rows and marker: the rows are adopted, though the captioner would now refuse every pair."""
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders)
    before = contents(tmp_path / "s")
    (tmp_path / "s/priors/text/shard-000000.json").unlink()
    assert caption(tmp_path / "s", folders, do_fail=1.0).failed == 0
    assert contents(tmp_path / "s") == before


def test_another_schema_version_is_named(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(2))
    header = json.loads((tmp_path / "s/store.json").read_text())
    (tmp_path / "s/store.json").write_text(json.dumps({**header, "schema_version": 99}))
    with pytest.raises(StoreError, match="schema version 99, this program reads 1"):
        Store.open(tmp_path / "s")
    with pytest.raises(StoreError, match="no store here"):
        Store.open(tmp_path)
    (tmp_path / "s/store.json").write_text("[]")
    with pytest.raises(StoreError, match="damaged"):
        Store.open(tmp_path / "s")


def test_odd_file_names_become_safe_keys(tmp_path: Path, draw_pairs: Any) -> None:
    first, second = draw_pairs(1)
    for name in ("über straße.png", "..hidden.png", "x" * 200 + ".png", "a b.png", "-rf.png"):
        shutil.copy(first / "p0000.png", first / name)
        shutil.copy(second / "p0000.png", second / name)
    caption(tmp_path / "s", (first, second))
    store = Store.open(tmp_path / "s")
    assert verify(store).problems == []
    assert {row.first for row in store.plan()} == {f"vi/{path.name}" for path in first.iterdir()}


def test_bad_input_leaves_no_store_behind(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    (folders[0] / "p0001.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"p0001\.png.*empty"):
        caption(tmp_path / "s", folders)
    (folders[0] / "p0001.png").unlink()
    with pytest.raises(PairingError, match=r"p0001\.png"):
        caption(tmp_path / "s", folders)
    assert not (tmp_path / "s").exists()


def test_a_truncated_image_is_that_pairs_failure(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    path = folders[0] / "p0001.png"
    path.write_bytes(path.read_bytes()[:900])
    summary = caption(tmp_path / "s", folders)
    assert summary.errors == {"image": 1}
    assert "vi/p0001.png: the image is damaged or cut short" in str(summary.first_error)


def test_one_pair_can_be_looked_up(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(3))
    store = Store.open(tmp_path / "s")
    assert describe_pair(store, "p0001")["priors"]["text"]["status"] == "ok"
    assert describe_store(store)["priors"]["text"]["pairs"] == 3
    with pytest.raises(StoreError, match="did you mean 'p0001'"):
        describe_pair(store, "p00011")
