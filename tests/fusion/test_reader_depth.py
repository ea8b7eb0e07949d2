"""Images of 16 bits in a store: training sees the levels that fusing them would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fusion.reader import open_pairs
from fusion.recipe import load_recipe
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.sources import find_source
from pipeline.store import Store


def test_sixteen_bits_are_rounded_not_cut(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (3, 64, 64), dtype=np.uint16)
    for side in ("vi", "ir"):
        (tmp_path / side).mkdir()
        for index, pixels in enumerate(deep):
            Image.fromarray(pixels if side == "ir" else pixels[::-1].copy()).save(tmp_path / side / f"{index}.png")
    options = CaptionOptions(store=str(tmp_path / "store"), captioner="measured", embedder="hashing", workers=1)
    caption_pairs(options, find_source(None, (tmp_path / "vi", tmp_path / "ir"), None, None, None))
    training, held = open_pairs(Store.open(tmp_path / "store"), load_recipe("tiny", "teacher", ["validation_share=0"]))
    assert len(training) == 3 and not len(held)
    for index, row in enumerate(training.rows):
        expected = ((deep[int(row.key)].astype(int) + 128) // 257).astype(np.uint8)
        visible, infrared = training.pictures(index)
        assert np.array_equal(infrared.squeeze(), expected)
        assert np.array_equal(visible[..., 0] if visible.ndim == 3 else visible, expected[::-1])
