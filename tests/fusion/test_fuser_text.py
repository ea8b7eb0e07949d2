"""Texts given to a Fuser: embeddings that fit a text-guided network, and one sentence for what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusion.catalog import NETWORKS
from fusion.inference import Fuser
from fusion.weights import load_weights, save_weights
from pipeline.errors import InputError

VISIBLE = np.random.default_rng(0).random((2, 16, 24, 3), np.float32)
INFRARED = np.random.default_rng(1).random((2, 16, 24), np.float32)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Fuser:
    torch.manual_seed(0)
    network = NETWORKS["teacher-edge"].build()
    with torch.no_grad():
        for parameter in network.parameters():  # fresh ones ignore the text
            parameter += 0.05 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("reader") / "w"
    save_weights(folder, network, "# card\n")
    return Fuser(load_weights(folder), device="cpu")


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_a_text_of_another_precision_is_the_same_text(reader: Fuser, kind: torch.dtype) -> None:
    text = torch.randn(2, 512).half()
    assert np.array_equal(reader(VISIBLE, INFRARED, text.to(kind)), reader(VISIBLE, INFRARED, text.float()))


def test_one_text_serves_all_pairs(reader: Fuser) -> None:
    text = torch.randn(1, 512)
    fused = reader(VISIBLE, INFRARED, text)
    assert np.allclose(fused, reader(VISIBLE, INFRARED, text.repeat(2, 1)), atol=1e-4)
    assert not np.allclose(fused, reader(VISIBLE, INFRARED), atol=0.01), "the text is read"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (torch.zeros(512), r"a text of shape \(512,\); expected \(2, 512\)"),
        (torch.zeros(1, 5), r"a text of shape \(1, 5\); expected \(2, 512\)"),
        (torch.zeros(3, 512), r"a text of shape \(3, 512\); expected \(2, 512\)"),
        (torch.zeros(2, 512, dtype=torch.int64), r"a text of int64; expected its embedding, floats"),
        (torch.full((2, 512), float("nan")), r"a text with numbers that are not finite"),
        (np.zeros((2, 512), np.float32), r"a text of type ndarray; expected its embedding, a tensor"),
        ("a dark scene", r"a text of type str; expected its embedding, a tensor"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(reader: Fuser, text: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reader(VISIBLE, INFRARED, text)


def test_a_network_that_reads_nothing_takes_any_embedding_but_no_words(tmp_path: Path) -> None:
    fuser = Fuser.from_pretrained("nano", device="cpu")
    assert np.array_equal(fuser(VISIBLE, INFRARED, torch.randn(2, 7)), fuser(VISIBLE, INFRARED))
    with pytest.raises(InputError, match="a text of type str"):
        fuser(VISIBLE, INFRARED, "a dark scene")  # type: ignore[arg-type]
