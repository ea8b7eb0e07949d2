"""Both readers against the store: same batches, only the train split, a memory bound, test content refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fusion.batch import Batch
from fusion.losses import TERMS
from fusion.reader import Cache, IndexedReader, held_out, open_pairs, without
from fusion.recipe import Recipe, load_recipe
from fusion.stream import StreamReader, shards_of
from object_store import served_bucket
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.errors import InputError, StoreError
from pipeline.images import read_image
from pipeline.sources import find_source
from pipeline.store import Store
from pipeline.task_file import load_task


def recipe(*settings: str) -> Recipe:
    return load_recipe("tiny", "teacher", ["crop=48", "batch_size=2", *settings])


def flat(steps: Sequence[Sequence[Batch]]) -> list[Batch]:
    return [part for parts in steps for part in parts]


def same(one: Batch, other: Batch) -> bool:
    return one.keys == other.keys and all(
        torch.equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(Batch)
        if field.name != "keys"
    )


def test_a_sample_is_the_stores_picture_text_and_weights(store: Path) -> None:
    opened = Store.open(store)
    training, held = open_pairs(opened, recipe())
    assert len(training) + len(held) == 8 and len(held) == 1
    assert not set(training.pair_ids) & set(held.pair_ids)
    batch = held.centre(0, 500)
    row = held.rows[0]
    visible, infrared = (read_image(content) for content in opened.image_bytes(row))
    assert np.array_equal((batch.visible[0] * 255).round().numpy().transpose(1, 2, 0), visible.pixels)
    assert np.array_equal((batch.infrared[0, 0] * 255).round().numpy(), infrared.pixels)
    table = opened.rows("text").to_pylist()
    said = next(entry for entry in table if entry["key"] == row.key)
    assert batch.text[0].tolist() == said["text_embedding"]
    assert batch.weights[0].tolist() == [said["loss_weights"][name] for name in TERMS]


def test_loss_weights_come_from_prior_task_or_recipe(store: Path) -> None:
    opened = Store.open(store)
    default = load_task(opened.header.task)
    fixed = open_pairs(opened, recipe("weights=default"))[0].weights
    assert (fixed == np.array(list(default.events[default.default].weights.as_dict().values()), dtype=np.float32)).all()
    own = open_pairs(opened, recipe("weights={ssim: 3}"))[0].weights
    assert (own == np.array([0, 0, 0, 3, 0], dtype=np.float32)).all()


def test_reading_ahead_in_threads_changes_nothing(store: Path) -> None:
    training, _ = open_pairs(Store.open(store), recipe())
    alone = flat(list(IndexedReader([training], recipe("workers=0")).steps(0, 9)))
    threads = flat(list(IndexedReader([training], recipe("workers=3")).steps(0, 9)))
    late = flat(list(IndexedReader([training], recipe("workers=2")).steps(5, 9)))
    assert len(alone) == 9 and all(map(same, alone, threads)) and all(map(same, alone[5:], late))
    epoch = Counter(key for batch in alone for key in batch.keys[:7])
    assert max(epoch.values()) - min(epoch.values()) <= 1


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch_in_the_global_order(store: Path, processes: int) -> None:
    training, _ = open_pairs(Store.open(store), recipe())
    settings = recipe("batch_size=8", "accumulation=2")
    whole = flat(list(IndexedReader([training], replace(settings, accumulation=1)).steps(0, 3)))
    parts = [list(IndexedReader([training], settings, rank, processes).steps(0, 3)) for rank in range(processes)]
    for step, batch in enumerate(whole):
        keys = [key for part in range(2) for rank in range(processes) for key in parts[rank][step][part].keys]
        assert keys == list(batch.keys)


def test_the_cache_keeps_to_its_limit_and_does_not_change_the_pictures(store: Path) -> None:
    one = 72 * 88 * 4
    cache = Cache(one * 3)
    training, _ = open_pairs(Store.open(store), recipe(), cache)
    first = [training.pictures(index) for index in range(len(training))]
    assert cache.used == one * 3
    for index, pair in enumerate(first):
        assert all(np.array_equal(a, b) for a, b in zip(pair, training.pictures(index), strict=True))


def test_streaming_feeds_the_same_batches_as_indexing(store: Path) -> None:
    training, _ = open_pairs(Store.open(store), recipe())
    plain = recipe("shuffle=false", "batch_size=7")
    indexed = flat(list(IndexedReader([training], plain).steps(0, 3)))
    streamed = flat(list(StreamReader([training], plain).steps(0, 3)))
    assert all(map(same, indexed, streamed))


@pytest.mark.parametrize("shares", ["[1]", "[0, 0]", "[-1, 3]", "[.nan, 1]", "[.inf, 1]"])
def test_both_readers_refuse_impossible_shares_before_the_first_step(store: Path, shares: str) -> None:
    training, held = open_pairs(Store.open(store), recipe())
    for reader in (IndexedReader, StreamReader):
        with pytest.raises(InputError, match=r"shares .*: expected 2 numbers above 0, one for each store"):
            reader([training, held], recipe(f"shares={shares}"))


def test_both_readers_read_an_object_store(monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    with served_bucket(monkeypatch) as home:
        import s3fs

        s3fs.S3FileSystem().put(str(store), f"{home}/store", recursive=True)
        local, remote = (open_pairs(Store.open(where), recipe())[0] for where in (store, f"{home}/store"))
        for kind in (IndexedReader, StreamReader):
            settings = recipe("batch_size=7")
            batches = [flat(list(kind([pairs], settings).steps(0, 2))) for pairs in (local, remote)]
            assert len(batches[0]) == 2 and all(map(same, *batches)), kind


def test_one_store_may_hold_several_priors(new_store: Callable[..., Path], tmp_path: Path) -> None:
    store = new_store(tmp_path, pairs=3)
    other = CaptionOptions(
        store=str(store),
        prior="short",
        captioner="measured",
        embedder="hashing",
        embedder_settings={"width": "64"},
        workers=1,
    )
    caption_pairs(
        other, find_source(None, (tmp_path / "store-pairs/vi", tmp_path / "store-pairs/ir"), None, None, None)
    )
    widths = [open_pairs(Store.open(store), recipe(f"prior={name}"))[0].text_width for name in ("text", "short")]
    assert widths == [512, 64]
    with pytest.raises(StoreError, match="shortt"):
        open_pairs(Store.open(store), recipe("prior=shortt"))


def test_a_shuffled_stream_gives_every_sample_of_an_epoch_once(store: Path) -> None:
    training, _ = open_pairs(Store.open(store), recipe())
    settings = recipe("batch_size=7")
    (indexed,), (streamed,) = (
        flat(list(kind([training], settings).steps(0, 1))) for kind in (IndexedReader, StreamReader)
    )
    assert sorted(indexed.keys) == sorted(streamed.keys)
    by_key = {key: place for place, key in enumerate(indexed.keys)}
    for place, key in enumerate(streamed.keys):
        assert torch.equal(streamed.visible[place], indexed.visible[by_key[key]])


def test_a_resumed_stream_draws_crops_that_were_not_seen(store: Path) -> None:
    """Three passes over seven pairs, in one go and resumed after each: 21 different crops either way."""
    training = open_pairs(Store.open(store), recipe("reader=stream"))[0]
    drawing = recipe("reader=stream", "batch_size=1")
    passes = len(training)
    for cuts in ([0, 3 * passes], [0, passes, 2 * passes, 3 * passes]):
        crops = [
            batch.visible.numpy().tobytes()
            for first, last in pairwise(cuts)
            for batch in flat(list(StreamReader([training], drawing).steps(first, last)))
        ]
        assert len(set(crops)) == len(crops) == 3 * passes


def test_no_store_trains_on_what_another_holds_out(store: Path) -> None:
    """A large store and a part of it: each holds out its own, and both leave out both."""
    training, held = open_pairs(Store.open(store), recipe("validation_share=0.2"))
    part = training.subset([0, 1, 2])
    aside = training.subset([1])
    kept = without([training, part], [held, aside])
    assert [len(pairs) for pairs in kept] == [len(training) - 1, 2]
    for pairs in kept:
        assert not set(pairs.pair_ids) & {*held.pair_ids, *aside.pair_ids}
    with pytest.raises(InputError, match="holds out all of its pairs"):
        without([training, aside], [aside])


def test_uneven_shards_never_end_a_process_early(store: Path) -> None:
    """Three shards for two processes: one has twice the pairs of the other, and both give all steps."""
    training, _ = open_pairs(Store.open(store), recipe())
    assert len(shards_of(training)) == 3
    settings = recipe("batch_size=4")
    seen = [Counter(k for b in flat(list(StreamReader([training], settings, rank, 2).steps(0, 6))) for k in b.keys) for rank in (0, 1)]  # fmt: skip
    assert [sum(counts.values()) for counts in seen] == [12, 12]
    with pytest.raises(InputError, match="3 shards with training pairs for 4 processes"):
        StreamReader([training], recipe("batch_size=4"), 0, 4)


class Memory:
    """A store in memory with one row per split, and one failed caption."""

    name = "memory"
    header = SimpleNamespace(task="ivf", modalities=("visible", "infrared"))

    def __init__(self, splits: Sequence[str], status: Sequence[str]) -> None:
        self.splits, self.status = splits, status

    def plan(self) -> list[Any]:
        return [
            SimpleNamespace(key=f"k{i}", pair_id=f"p{i}", split=split, shard=0) for i, split in enumerate(self.splits)
        ]

    def fingerprint(self, prior: str) -> dict[str, Any]:
        return {"embedder": {"name": "clip", "width": 4}}

    def rows(self, prior: str, columns: Sequence[str] | None = None) -> Any:
        good = [status == "ok" for status in self.status]
        weights = dict.fromkeys(TERMS, 1.0)
        table = {
            "status": list(self.status),
            "text_embedding": [[1.0, 0, 0, 0] if ok else None for ok in good],
            "loss_weights": [weights if ok else None for ok in good],
            "events": [[] for _ in good],
            "scene": ["" for _ in good],
        }
        return pa.table(table).select(list(columns or table))

    def image_bytes(self, row: Any) -> tuple[bytes, bytes]:
        raise AssertionError(f"{row.key} must not be read")


def test_only_train_pairs_with_a_caption_are_opened() -> None:
    shelf = Memory(["train", "test", "train", "train"], ["ok", "ok", "error", "ok"])
    training, held = open_pairs(shelf, recipe("reader=stream"))
    assert sorted([*training.pair_ids, *held.pair_ids]) == ["p0", "p3"]
    with pytest.raises(StoreError, match=r"no pair of the split 'train' .*splits here: test"):
        open_pairs(Memory(["test"], ["ok"]), recipe())


def test_drawn_degradations_need_an_embedder_that_is_arithmetic() -> None:
    with pytest.raises(InputError, match=r"embedder 'clip'.*--embedder hashing"):
        open_pairs(Memory(["train", "train"], ["ok", "ok"]), recipe("degrade=0.5"))


def test_drawn_degradations_change_the_input_and_its_text_but_not_the_target(store: Path) -> None:
    opened = Store.open(store)
    always, never = (
        flat(list(IndexedReader([open_pairs(opened, r)[0]], r).steps(0, 8)))
        for r in (recipe("degrade=1"), recipe("degrade=0"))
    )
    for degraded, clean in zip(always, never, strict=True):
        assert degraded.keys == clean.keys
        assert torch.equal(degraded.target_visible, clean.visible)
        assert torch.equal(degraded.target_infrared, clean.infrared)
        for index in range(2):
            changed = [
                not torch.equal(degraded.visible[index], clean.visible[index]),
                not torch.equal(degraded.infrared[index], clean.infrared[index]),
            ]
            assert any(changed)
            assert not torch.equal(degraded.text[index], clean.text[index])
            assert torch.linalg.norm(degraded.text[index]).item() == pytest.approx(1, abs=1e-5)


def test_listed_test_pictures_are_refused_by_their_pixels(
    data_root: Path, tmp_path: Path, new_store: Callable[..., Path]
) -> None:
    """A renamed and re-encoded RoadScene test pair in somebody's own folder is still known."""
    import shutil

    from PIL import Image

    from pipeline.manifest import load_manifest
    from pipeline.pairs import find_pairs

    pair = find_pairs(load_manifest("roadscene"), data_root, ["test"])[0]
    for name, path in (("vi", pair.first), ("ir", pair.second)):
        folder = tmp_path / "mine-pairs" / name
        folder.mkdir(parents=True)
        Image.open(path).save(folder / "000.bmp")
    store = new_store(tmp_path, pairs=2, first=1, name="mine")
    with pytest.raises(InputError, match=r"roadscene"):
        open_pairs(Store.open(store), recipe())
    shutil.rmtree(store)


def test_the_validation_slice_hangs_on_identity_alone() -> None:
    ids = [f"pair{index}" for index in range(100)]
    chosen = {ids[index] for index in held_out(ids, 0.1, 99)}
    backwards = ids[::-1]
    assert {backwards[index] for index in held_out(backwards, 0.1, 99)} == chosen and len(chosen) == 10
    assert len(held_out(ids, 0.1, 3)) == 3 and len(held_out(ids[:4], 0.01, 3)) == 1
    assert not held_out(ids, 0, 3) and not held_out(ids[:1], 0.5, 3)
    assert len(held_out(ids[:4], 1.0, 99)) == 3, "one is left to train on"
