"""The texts a teacher is benchmarked with come from a store; a failed caption has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.benchmark import methods_for
from fusion.edge import EdgeConfig, EdgeNetwork
from fusion.methods import NetworkMethod, file_digest, stored_texts
from fusion.weights import save_weights
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.console import set_quiet
from pipeline.errors import StoreError
from pipeline.manifest import folder_manifest
from pipeline.pairs import pair_folders
from pipeline.sources import find_source
from pipeline.store import Store


def test_texts_are_found_by_content_and_failed_captions_have_none(tmp_path: Path) -> None:
    set_quiet(True)
    generator = np.random.default_rng(5)
    folders = tmp_path / "vi", tmp_path / "ir"
    for folder in folders:
        folder.mkdir()
        for number in range(12):
            pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"p{number:02d}.png")
    options = CaptionOptions(
        store=str(tmp_path / "s"),
        captioner="scripted",
        embedder="hashing",
        workers=1,
        max_failed="100%",
        captioner_settings={"fail": "0.4"},
    )
    summary = caption_pairs(options, find_source(None, folders, None, None, None))
    assert 0 < summary.failed < 12
    texts = stored_texts(tmp_path / "s")
    assert len(texts) == 12 - summary.failed
    rows = Store.open(tmp_path / "s").rows(columns=["text_embedding", "status"]).to_pylist()
    for pair, row in zip(pair_folders(*folders), rows, strict=True):
        text = texts.get((file_digest(pair.first), file_digest(pair.second)))
        assert (text is None) == (row["status"] == "failed")
        assert text is None or torch.equal(text, torch.tensor(row["text_embedding"]))


def test_a_teacher_is_benchmarked_with_the_prior_it_was_trained_with(tmp_path: Path) -> None:
    set_quiet(True)
    folders = tmp_path / "vi", tmp_path / "ir"
    for number, folder in enumerate(folders):
        folder.mkdir()
        Image.effect_noise((24, 16), 40 + 9 * number).save(folder / "p.png")
    store = tmp_path / "stores" / "pairs"
    for prior, width in (("text", "64"), ("other", "48")):
        options = CaptionOptions(
            store=str(store),
            prior=prior,
            captioner="scripted",
            embedder="hashing",
            workers=1,
            embedder_settings={"width": width},
        )
        caption_pairs(options, find_source(None, folders, None, None, None))
    pairs = list(pair_folders(*folders))
    small = {"half_width": 4, "quarter_width": 0, "quarter_depth": 0, "eighth_width": 0, "eighth_depth": 0}

    def benchmarked(prior: str) -> NetworkMethod:
        told = {"training": {"recipe": {"prior": prior}}}
        save_weights(tmp_path / prior, EdgeNetwork(EdgeConfig(**small, text_width=48)), "card", told)
        *_, method = methods_for(
            folder_manifest(),
            pairs,
            {"teacher": str(tmp_path / prior)},
            runs=tmp_path / "runs",
            stores=tmp_path / "stores",
            device="cpu",
        )
        assert isinstance(method, NetworkMethod)
        return method

    method = benchmarked("other")
    (text,) = stored_texts(store, "other").values()
    assert method.texts is not None and torch.equal(next(iter(method.texts.values())), text) and len(text) == 48
    assert "pairs, prior other, SHA-256" in str(method.card.text)
    with pytest.raises(StoreError, match="third"):
        benchmarked("third")
