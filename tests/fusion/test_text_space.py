"""A network reads the texts of one embedder: those of another, of the same width too, are noise to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusion.benchmark import methods_for
from fusion.recipe import load_recipe
from fusion.text_space import same_embedder
from fusion.training import resume_run, start_run
from fusion.weights import load_weights
from pipeline.errors import InputError, WeightsError
from pipeline.manifest import folder_manifest
from pipeline.pairs import pair_folders

FAST = ["steps=1", "batch_size=2", "crop=48", "validation_crop=48", "validation_share=0", "degrade=0"]
CLIP = {
    "name": "clip",
    "model": "ViT-B-32",
    "pretrained": "openai",
    "weights_digest": "0123abcd99",
    "precision": "fp32",
}


def as_if_by(embedder: dict[str, Any], store: Path) -> Path:
    """The store with a fingerprint that says another embedder made its texts."""
    path = store / "priors" / "text" / "fingerprint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"embedder": {"width": 512, **embedder}}))
    return store


@pytest.fixture
def by_clip(new_store: Callable[..., Path], tmp_path: Path) -> Path:
    return as_if_by(CLIP, new_store(tmp_path / "clip", pairs=3))


@pytest.fixture
def teacher(store: Path, tmp_path: Path) -> Path:
    """Trained with the texts of the hashing embedder."""
    start_run(load_recipe("tiny", "teacher", FAST), [store], tmp_path / "teacher")
    return tmp_path / "teacher"


def test_a_run_writes_down_whose_texts_it_reads(teacher: Path) -> None:
    (first,) = load_weights(teacher).config["training"]["stores"]
    assert first["embedder"] == {"name": "hashing", "version": 1, "width": 512}
    assert resume_run(teacher).step == 1


def test_a_teacher_is_asked_about_no_texts_of_another_embedder(teacher: Path, by_clip: Path, tmp_path: Path) -> None:
    recipe = load_recipe("tiny", "student", FAST)
    with pytest.raises(
        WeightsError, match=r"embedder hashing, but .*store holds those of clip ViT-B-32 \(weights 0123abcd"
    ):
        start_run(recipe, [by_clip], tmp_path / "student", teachers=[teacher])
    assert not (tmp_path / "student").exists()


def test_weights_that_do_not_say_are_known_by_the_width(teacher: Path, by_clip: Path, tmp_path: Path) -> None:
    config = json.loads((teacher / "config.json").read_text())
    for store in config["training"]["stores"]:
        del store["embedder"]
    (teacher / "config.json").write_text(json.dumps(config))
    start_run(load_recipe("tiny", "student", FAST), [by_clip], tmp_path / "student", teachers=[teacher])
    assert (tmp_path / "student" / "model.safetensors").is_file()


def test_texts_of_two_embedders_are_mixed_only_where_nobody_reads_them(
    store: Path, by_clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"of the embedder hashing, .* of clip ViT-B-32 .*need the same embedder"):
        start_run(load_recipe("tiny", "teacher", FAST), [store, by_clip], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    start_run(load_recipe("nano", "student", FAST), [store, by_clip], tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_teacher_is_benchmarked_with_the_texts_of_its_embedder(teacher: Path, by_clip: Path) -> None:
    def methods(stores: Path) -> list[Any]:
        folders = by_clip.parent / "store-pairs" / "vi", by_clip.parent / "store-pairs" / "ir"
        return methods_for(
            folder_manifest(),
            list(pair_folders(*folders)),
            {"teacher": str(teacher)},
            runs=teacher.parent,
            stores=stores,
            device="cpu",
        )

    stores = by_clip.parent / "stores"
    stores.mkdir()
    by_clip.rename(stores / "pairs")
    with pytest.raises(WeightsError, match=r"embedder hashing, but .*pairs, prior text holds those of clip"):
        methods(stores)
    as_if_by({"name": "hashing", "version": 1}, stores / "pairs")
    assert methods(stores)[-1].texts


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"engine": "open_clip 9"}, True),
        ({"pretrained": "a/file.safetensors"}, True),  # the same weights by their digest
        ({"precision": "bf16", "weights_digest": "rounded"}, True),
        ({"precision": "bf16", "weights_digest": "rounded", "pretrained": "laion2b"}, False),
        ({"weights_digest": "another"}, False),
        ({"model": "ViT-L-14"}, False),
        ({"width": 768}, False),
        ({"name": "hashing"}, False),
    ],
)
def test_the_same_weights_in_another_precision_or_place_are_one_embedder(changes: dict[str, Any], same: bool) -> None:
    assert same_embedder(CLIP, CLIP | changes) == same == same_embedder(CLIP | changes, CLIP)
