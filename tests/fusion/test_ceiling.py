"""The ceiling can be reached: it is above its start under the metrics as scored, and a copy cannot be improved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.ceiling import covered, push
from fusion.score import score
from pipeline.errors import InputError


def smooth(seed: int, size: tuple[int, int] = (72, 80)) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, size=(9, 10), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def test_the_pixels_climb_and_the_scores_confirm_it() -> None:
    first, second = smooth(0), smooth(1)
    found = push(first, second, steps=40)
    scores = score(first, second, found.image, names=("VIF", "Qabf"))
    assert scores["VIF"] + scores["Qabf"] == pytest.approx(found.reached, rel=1e-4)
    start = score(first, second, np.maximum(first, second), names=("VIF", "Qabf"))
    assert start["VIF"] + start["Qabf"] == pytest.approx(found.start, rel=1e-4)
    assert found.reached > found.start + 0.05


def test_real_pairs_have_room_above_the_maximum(data_root: Path) -> None:
    visible = np.asarray(Image.open(data_root / "msrs/test/vi/00004N.webp"))[100:260, 200:400]
    infrared = np.asarray(Image.open(data_root / "msrs/test/ir/00004N.png").convert("L"))[100:260, 200:400]
    found = push(visible, infrared, steps=30)
    assert found.reached > found.start + 0.03


def test_a_picture_too_small_for_vif_is_refused() -> None:
    with pytest.raises(InputError, match="no ceiling"):
        push(smooth(0, (30, 30)), smooth(1, (30, 30)))


def test_share_of_the_way() -> None:
    assert covered(1.2, 1.0, 1.4) == pytest.approx(0.5)
    assert covered(1.2, 1.0, 1.0) is None
