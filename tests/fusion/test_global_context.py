"""Global context: what it measures, that a tile knows of the whole image, and that it takes the place of a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion.edge import EdgeConfig, EdgeNetwork
from fusion.export import export_network
from fusion.global_context import BINS, FLOOR_SHARE, FLOOR_VARIANCE, GlobalContext
from fusion.tiling import run
from fusion.weights import load_weights, save_weights
from pipeline.errors import WeightsError


def network() -> EdgeNetwork:
    """Random weights everywhere, the head's too."""
    torch.manual_seed(1)
    made = EdgeNetwork(EdgeConfig(context_width=32)).eval()
    torch.nn.init.normal_(made.head.weight, std=0.05)
    return made


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Dark on the left, bright and noisy on the right."""
    torch.manual_seed(3)
    ramp = torch.linspace(0.1, 0.8, width).expand(1, 1, height, width)
    rough = ramp + 0.3 * ramp * torch.rand(1, 1, height, width)
    return rough.expand(1, 3, height, width).contiguous(), rough.flip(3).contiguous()


def test_it_reads_grey_levels_means_and_deviations_over_all_pixels() -> None:
    context = GlobalContext(5)
    planes = torch.rand(2, 2, 43, 69)
    expected = [[], []]
    with torch.no_grad():
        for pair, found in zip(planes, expected, strict=True):
            for plane in pair[:, ::2, ::2].double().numpy():  # a pixel between two levels is shared by them
                place = plane.ravel() * (BINS - 1)
                lower = np.floor(place).astype(int)
                shares = np.zeros(BINS + 1)
                np.add.at(shares, lower, 1 - (place - lower))
                np.add.at(shares, lower + 1, place - lower)
                found.extend((np.log(shares[:BINS] / place.size + FLOOR_SHARE) + 3.5) * 0.7)
            features = pair[None]
            for scale in context.scales:
                raw = scale(features)
                pixels = raw[0].double().numpy().reshape(raw.shape[1], -1)
                found.extend([*(2 * pixels.mean(axis=1)), *(np.log(pixels.var(axis=1) + FLOOR_VARIANCE) / 2 + 3)])
                features = raw.relu()
        statistics = context.statistics(planes)
        np.testing.assert_allclose(statistics.numpy(), expected, atol=2e-4)
        torch.testing.assert_close(context(planes), context.out(context.hidden(statistics)))


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
    assert made.context is not None
    for part in (*made.context.scales, made.context.hidden[0], made.context.out):
        gradient = part.weight.grad
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
