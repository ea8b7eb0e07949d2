"""Departures from both sources, targets and spurious edges, on pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.metrics import departures
from fusion.score import score
from textures import texture

A, B = texture(1), texture(2, sigma=5)


def test_a_black_hole_in_the_sky_departs_from_both_sources() -> None:
    holed = np.maximum(A, B)
    holed[40:120, 40:120] = 0
    good, bad = (score(A, B, f, names=["LFD", "Spurious"]) for f in (np.maximum(A, B), holed))
    assert bad["LFD"] > 5 * good["LFD"] and bad["Spurious"] > good["Spurious"]  # type: ignore[operator]


def test_a_target_kept_and_a_target_lost() -> None:
    visible = torch.full((1, 1, 60, 60), 50.0)
    infrared = visible.clone()
    infrared[..., 20:40, 20:30] = 200
    boxes = torch.tensor([[20, 20, 30, 40], [-9, -9, -1, -1]])
    kept = departures.target_retention(visible, infrared, infrared, boxes)
    half = departures.target_retention(visible, infrared, (visible + infrared) / 2, boxes)
    lost = departures.target_retention(visible, infrared, visible, boxes)
    assert kept.brightness[0] == 1 and kept.contrast[0] == pytest.approx(1)
    assert half.contrast[0] == pytest.approx(0.5) and half.brightness[0] == pytest.approx(125 / 200)
    assert lost.contrast[0] == 0 and lost.brightness[0] == pytest.approx(50 / 200)
    assert (kept.level[0], half.level[0], lost.level[0]) == (200, 125, 50)
    assert kept.contrast[1].isnan() and kept.level[1].isnan()


def test_a_targets_surroundings_are_a_ring_half_its_box_wide() -> None:
    """A stripe in the fifth and last column of the ring: 20 of its 300 pixels, so its mean is 60 instead of 50."""
    visible, fused = torch.full((1, 1, 60, 60), 50.0), torch.full((1, 1, 60, 60), 50.0)
    fused[..., 20:30, 20:30] = 150
    infrared = fused.clone()
    infrared[..., 34] = 200
    found = departures.target_retention(visible, infrared, fused, torch.tensor([[20, 20, 30, 30]]))
    assert found.contrast.tolist() == pytest.approx([(150 - 50) / (150 - 60)])


def test_a_dark_target_that_stands_out_more_is_the_one_to_keep() -> None:
    dark, weak = torch.full((1, 1, 60, 60), 150.0), torch.full((1, 1, 60, 60), 100.0)
    dark[..., 20:30, 20:30], weak[..., 20:30, 20:30] = 50, 120
    boxes = torch.tensor([[20, 20, 30, 30]])
    for first, second in ((dark, weak), (weak, dark)):
        assert departures.target_retention(first, second, dark, boxes).contrast.tolist() == pytest.approx([1])
        assert departures.target_retention(first, second, weak, boxes).contrast.tolist() == pytest.approx([-0.2])


@pytest.mark.parametrize(("height", "share"), [(15, 0), (16, 0), (17, 2 / 40)])
def test_an_edge_is_spurious_from_more_than_eight_grey_levels_on(height: int, share: float) -> None:
    """A step has half its height in Sobel / 8, in the two columns beside it."""
    flat = torch.full((1, 1, 40, 40), 100.0)
    stepped = flat.clone()
    stepped[..., 20:] += height
    assert departures.spurious_edge_share(flat, flat, stepped).item() == pytest.approx(share)
    assert departures.spurious_edge_share(flat, stepped, stepped).item() == 0
