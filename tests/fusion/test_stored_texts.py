"""The texts a teacher is benchmarked with come from a store; a failed caption has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusion.methods import file_digest, stored_texts
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.console import set_quiet
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
