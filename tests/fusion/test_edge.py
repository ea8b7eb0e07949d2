"""The edge students: budgets, any size, identity, colours, and the same answer after export."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from fusion.cost import count_gflops
from fusion.edge import (
    EDGE,
    EDGE_TEACHER,
    NANO,
    PRIOR,
    SHARPNESS,
    EdgeConfig,
    EdgeNetwork,
    Fold,
    Interleave,
    convolution_of_both,
    to_luma,
)
from pipeline.errors import WeightsError

BUDGETS = {"edge": (EDGE, 100_000, 4.0), "nano": (NANO, 10_000, 1.0)}


def identity(config: EdgeConfig) -> EdgeNetwork:
    """Random weights below, but w = 1 and r = 0."""
    torch.manual_seed(0)
    network = EdgeNetwork(config).eval()
    with torch.no_grad():
        network.head.bias[:4] = 40 / SHARPNESS
    return network


def trained_like(config: EdgeConfig) -> EdgeNetwork:
    """Random weights everywhere, the head's too."""
    torch.manual_seed(1)
    network = EdgeNetwork(config).eval()
    torch.nn.init.normal_(network.head.weight, std=0.05)
    return network


@pytest.mark.parametrize("name", BUDGETS)
def test_parameters_and_operations_stay_within_the_budget(name: str) -> None:
    config, parameters, gflops = BUDGETS[name]
    network = EdgeNetwork(config)
    assert sum(p.numel() for p in network.parameters()) <= parameters
    assert count_gflops(network, (480, 640)) <= gflops


@pytest.mark.parametrize("config", [EDGE, NANO], ids=["edge", "nano"])
def test_identity_weights_return_the_visible_bit_for_bit_at_every_size(config: EdgeConfig) -> None:
    network = identity(config)
    random = torch.Generator().manual_seed(2)
    sizes = [(8, 8), (9, 200), (200, 9), (127, 65), (33, 34), *((s, s + 3) for s in range(8, 60, 5))]
    for height, width in sizes:
        visible = torch.rand(1, 3, height, width, generator=random)
        infrared = torch.rand(1, 1, height, width, generator=random)
        assert torch.equal(network(visible, infrared), visible)


@pytest.mark.parametrize("config", [EDGE, NANO], ids=["edge", "nano"])
def test_an_untrained_network_is_a_soft_maximum(config: EdgeConfig) -> None:
    visible, infrared = torch.rand(2, 3, 24, 31), torch.rand(2, 1, 24, 31)
    luma = to_luma(visible)
    weight = torch.sigmoid(PRIOR * (luma - infrared))
    expected = weight * luma + (1 - weight) * infrared
    torch.testing.assert_close(to_luma(EdgeNetwork(config)(visible, infrared)), expected, atol=1e-5, rtol=0)


def test_all_channels_move_by_the_same_amount() -> None:
    visible, infrared = torch.rand(1, 3, 40, 56), torch.rand(1, 1, 40, 56)
    change = trained_like(EDGE)(visible, infrared) - visible
    assert change.abs().max() > 0.05
    torch.testing.assert_close(change[:, 0], change[:, 1], atol=1e-6, rtol=0)
    torch.testing.assert_close(change[:, 0], change[:, 2], atol=1e-6, rtol=0)


def test_every_pair_of_a_batch_is_fused_alone() -> None:
    network = trained_like(EDGE)
    visible, infrared = torch.rand(3, 3, 32, 48), torch.rand(3, 1, 32, 48)
    together = network(visible, infrared)
    for index in range(3):
        alone = network(visible[index : index + 1], infrared[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)


def test_fold_and_unfold_are_pixel_unshuffle_and_shuffle() -> None:
    planes = torch.rand(2, 3, 10, 14)
    assert torch.equal(Fold()(planes), functional.pixel_unshuffle(planes, 2))
    assert torch.equal(Interleave()(Fold()(planes)), planes)


def test_folding_and_the_first_convolution_are_one_of_stride_two() -> None:
    torch.manual_seed(0)
    stem = torch.nn.Conv2d(8, 5, 3, padding=1)
    planes = torch.randn(2, 2, 12, 20)
    torch.testing.assert_close(convolution_of_both(stem)(planes), stem(Fold()(planes)), rtol=1e-5, atol=1e-5)


def test_a_far_pixel_does_not_change_the_answer() -> None:
    """The halo that tiles need: nothing beyond 64 pixels is seen."""
    network = trained_like(EDGE)
    visible, infrared = torch.rand(1, 3, 160, 160), torch.rand(1, 1, 160, 160)
    other = infrared.clone()
    other[..., :64, :64] = 1 - other[..., :64, :64]
    torch.testing.assert_close(
        network(visible, infrared)[..., 128:, 128:], network(visible, other)[..., 128:, 128:], atol=1e-6, rtol=0
    )


def test_onnx_export_gives_the_same_picture_at_another_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = trained_like(NANO)
    example = torch.rand(1, 3, 48, 64), torch.rand(1, 1, 48, 64)
    dims = {2: torch.export.Dim("height", min=8), 3: torch.export.Dim("width", min=8)}
    program = torch.onnx.export(
        network, example, dynamo=True, dynamic_shapes={"visible": dims, "infrared": dims}, verbose=False
    )
    buffer = io.BytesIO()
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    visible, infrared = torch.rand(1, 3, 61, 83), torch.rand(1, 1, 61, 83)
    answer = session.run(None, {"visible": visible.numpy(), "infrared": infrared.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(answer), network(visible, infrared), atol=1e-5, rtol=0)


def test_the_guided_network_answers_to_its_text() -> None:
    torch.manual_seed(4)
    network = EdgeNetwork(EdgeConfig(half_width=8, quarter_width=8, eighth_width=8, text_width=16)).eval()
    torch.nn.init.normal_(network.head.weight, std=0.05)
    visible, infrared, text = torch.rand(2, 3, 24, 24), torch.rand(2, 1, 24, 24), torch.randn(2, 16)
    fused = network(visible, infrared, text)
    swapped = network(visible, infrared, text.flip(0))
    assert (fused - swapped).abs().amax() > 1e-3
    torch.testing.assert_close(
        network(visible[:1], infrared[:1], text[:1]), fused[:1]
    )  # a pair reads its own text alone
    with pytest.raises(WeightsError, match="reads a text embedding"):
        network(visible, infrared)


def test_every_resolution_of_the_guided_network_learns_from_the_text() -> None:
    network = EdgeNetwork(replace(EDGE_TEACHER, text_width=4))
    torch.nn.init.normal_(network.head.weight, std=0.05)
    network(torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16), torch.randn(1, 4)).square().sum().backward()
    conditions = {name: p for name, p in network.named_parameters() if name.endswith("condition.layers.0.weight")}
    assert len(conditions) == 3
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in conditions.values())
