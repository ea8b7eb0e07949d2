"""Global context: what it measures, that a tile knows of the whole image, and that it takes the place of a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.edge import EDGE_CONTEXT, EdgeConfig, EdgeNetwork
from fusion.export import export_network
from fusion.global_context import FLOOR, GlobalContext
from fusion.tiling import run
from fusion.weights import load_weights, save_weights
from pipeline.errors import WeightsError


def network() -> EdgeNetwork:
    """Random weights everywhere, the head's too."""
    torch.manual_seed(1)
    made = EdgeNetwork(EDGE_CONTEXT).eval()
    torch.nn.init.normal_(made.head.weight, std=0.05)
    return made


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Dark on the left, bright and noisy on the right."""
    torch.manual_seed(3)
    ramp = torch.linspace(0.1, 0.8, width).expand(1, 1, height, width)
    rough = ramp + 0.3 * ramp * torch.rand(1, 1, height, width)
    return rough.expand(1, 3, height, width).contiguous(), rough.flip(3).contiguous()


def test_it_is_the_mean_and_the_deviation_of_features_over_all_pixels() -> None:
    context = GlobalContext(5)
    planes = torch.rand(2, 2, 21, 34)
    with torch.no_grad():
        features = context.second(context.first(planes).relu()).relu().double().numpy()
        moments = np.concatenate([features.mean(axis=(2, 3)), np.sqrt(features.var(axis=(2, 3)) + FLOOR)], axis=1)
        expected = moments @ context.out.weight.double().numpy().T + context.out.bias.double().numpy()
        np.testing.assert_allclose(context(planes).numpy(), expected, atol=1e-5)


def test_a_far_pixel_changes_the_answer() -> None:
    visible, infrared = scene(160, 160)
    other = infrared.clone()
    other[..., :64, :64] = 1 - other[..., :64, :64]
    fused, changed = (network()(visible, plane)[..., 128:, 128:] for plane in (infrared, other))
    assert (fused - changed).abs().amax() > 1e-4


def test_tiles_know_of_the_whole_image() -> None:
    visible, infrared = scene(256, 448)
    made = network()
    whole = run(made, visible, infrared)
    tiled = run(made, visible, infrared, tile=192)
    assert float((whole - tiled).abs().amax()) < 1e-5
    alone = run(made, visible[..., :192, :192].contiguous(), infrared[..., :192, :192].contiguous())
    assert float((whole[..., :96, :96] - alone[..., :96, :96]).abs().amax()) > 1e-3, "or the test above shows nothing"


def test_every_resolution_learns_from_it() -> None:
    made = network()
    made(*scene(32, 32)).square().sum().backward()
    for part in ("first", "second", "out"):
        gradient = getattr(made.context, part).weight.grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0
    conditions = [name for name, _ in made.named_parameters() if name.endswith("condition.layers.0.weight")]
    assert len(conditions) == 2


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 31)])
def test_any_size_and_a_flat_image_are_finite(size: tuple[int, int]) -> None:
    planes = torch.zeros(1, 2, *size, requires_grad=True)
    context = GlobalContext(4)
    context(planes).sum().backward()
    assert planes.grad is not None
    assert bool(planes.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_loses_the_deviation(dtype: torch.dtype) -> None:
    """A million pixels: their sum is beyond half precision, and a small deviation beyond bfloat16's eight bits."""
    planes = (0.9 + 0.01 * torch.randn(1, 2, 1024, 1024)).clamp(0, 1)
    context = GlobalContext(4)
    with torch.no_grad():
        expected = context(planes.to(dtype).float())
        halved = context.to(dtype)(planes.to(dtype))
    assert halved.dtype == dtype
    torch.testing.assert_close(halved.float(), expected, atol=0.02, rtol=0.02)


def test_a_text_and_a_context_are_refused_together() -> None:
    with pytest.raises(WeightsError, match="one of the two"):
        EdgeNetwork(EdgeConfig(text_width=8, context_width=8))


def test_weights_make_the_round_trip(tmp_path: Path) -> None:
    made = network()
    save_weights(tmp_path / "seeing", made, "card", {})
    again = load_weights(tmp_path / "seeing").network
    torch.testing.assert_close(again(*scene(24, 40)), made(*scene(24, 40)))


@pytest.mark.parametrize("engine", ["onnx", "openvino", "torchscript"])
def test_it_is_exported(engine: str, tmp_path: Path) -> None:
    """The export compares itself with PyTorch at five sizes and two batches, and refuses a difference."""
    for package in {"onnx": ["onnx", "onnxruntime"], "openvino": ["onnx", "openvino"]}.get(engine, []):
        pytest.importorskip(package)
    save_weights(tmp_path / "seeing", network(), "card", {})
    compared = export_network(str(tmp_path / "seeing"), engine, tmp_path / "exported")
    assert max(one.difference for one in compared) <= 1e-4
