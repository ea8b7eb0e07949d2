"""What the engines on exported networks answer, and what they say of a description that is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fusion.catalog import NETWORKS
from fusion.export import WRITERS, export_network
from fusion.inference import Fuser
from fusion.weights import save_weights
from pipeline.errors import WeightsError

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "nano"
    save_weights(folder, NETWORKS["nano"].build(), "# fresh\n")
    return folder


@pytest.mark.parametrize("to", ["torch", *WRITERS])
def test_what_an_engine_gives_can_be_changed_and_learned_through(weights: Path, tmp_path: Path, to: str) -> None:
    """PyTorch lends out tensors of its inference mode for reading only."""
    if to != "torch":
        export_network(weights, to, tmp_path / "out")
    fuser = Fuser.from_pretrained(weights if to == "torch" else tmp_path / "out", engine=to)
    scale = torch.ones((), requires_grad=True)
    fused = fuser(torch.rand(3, 16, 17), torch.rand(1, 16, 17, requires_grad=True))
    (fused * scale).sum().backward()
    torch.testing.assert_close(scale.grad, fused.sum())
    assert not fused.mul_(0).any()


@pytest.mark.parametrize("lost", ["engine", "file", "precision", "weights_sha256", "whole_images"])
def test_an_export_whose_description_lacks_something_is_one_sentence(weights: Path, tmp_path: Path, lost: str) -> None:
    export_network(weights, "torchscript", tmp_path / "out")
    path = tmp_path / "out" / "export.json"
    described = json.loads(path.read_text())
    for wrong in ({}, {lost: 5}):
        path.write_text(json.dumps({name: value for name, value in described.items() if name != lost} | wrong))
        with pytest.raises(WeightsError, match=rf"export\.json: does not say its {lost}; export again"):
            Fuser.from_pretrained(tmp_path / "out", engine="torchscript")
