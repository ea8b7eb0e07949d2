"""Scores from arrays in Python: what is no image is refused, conventions are not mixed, threads are given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from fusion.score import prepare, score, score_fused
from pipeline.errors import InputError

IMAGES = [np.random.default_rng(seed).integers(0, 256, (48, 56), np.uint8) for seed in range(3)]


def test_what_is_no_image_is_refused() -> None:
    empty = np.zeros((0, 8), np.uint8)
    with pytest.raises(InputError, match="the first source has no pixels"):
        score(empty, empty, empty)
    with pytest.raises(InputError, match="the first source is a Tensor; a NumPy array is expected"):
        score(torch.zeros(8, 8), *IMAGES[1:])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the fused image is a list; a NumPy array is expected"):
        score(*IMAGES[:2], [[1]])  # type: ignore[arg-type]


def test_a_device_that_is_not_here_is_one_sentence() -> None:
    with pytest.raises(InputError, match="--device cuda:99: not a device"):
        score(*IMAGES, device="cuda:99")


def test_sources_of_one_convention_are_not_scored_under_another() -> None:
    sources = prepare(*IMAGES[:2], "dtpf")
    with pytest.raises(InputError, match="prepared under another convention than 'standard'"):
        score_fused(sources, IMAGES[2], names=["EN"])
    assert score_fused(sources, IMAGES[2], "dtpf", ["EN"]) == score(*IMAGES, "dtpf", ["EN"])


def test_scoring_at_once_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: score(*IMAGES), range(12)))
            assert set(pool.map(lambda _: torch.get_num_threads(), range(40))) == {3}
            assert pool.submit(torch.get_num_threads).result() == 3
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
