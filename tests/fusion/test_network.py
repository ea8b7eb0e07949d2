"""The fusion network: the paper's parameter counts, plain attention as the oracle, any size, tiles, weights on disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusion.attention import ChannelAttention, SpatialAttention
from fusion.catalog import NETWORKS
from fusion.cost import count_gflops, count_parameters
from fusion.feature_fusion import FUSIONS
from fusion.network import FusionNetwork, NetworkConfig
from fusion.tiling import GRID, OVERLAP, blend_weights, run, tile_spans
from fusion.weights import load_weights, save_weights
from pipeline.errors import InputError, WeightsError
from plain_attention import plain_channel_attention, plain_spatial_attention

SMALL = NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=None)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (NetworkConfig(), 40.29),
        (NetworkConfig(width=16, expansion=2, refinement=2, text_width=None), 4.37),
        (NetworkConfig(width=32, expansion=2, refinement=2, text_width=None), 15.77),
        (NetworkConfig(refinement=2, text_width=None), 39.11),
    ],
)
def test_parameter_counts_are_the_papers(config: NetworkConfig, millions: float) -> None:
    assert count_parameters(FusionNetwork(config)) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize(
    ("module", "plain"),
    [
        (SpatialAttention(16, heads=2), plain_spatial_attention),
        (SpatialAttention(24, heads=3, head_width=32), plain_spatial_attention),
        (ChannelAttention(16, heads=2), plain_channel_attention),
    ],
)
def test_fast_attention_equals_the_plain_one_forward_and_backward(module: nn.Module, plain: object) -> None:
    torch.manual_seed(0)
    width = module.to_qkv.in_channels  # type: ignore[union-attr]
    inputs = [torch.randn(2, width, 16, 24, requires_grad=True) for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    aim = torch.randn(2, width, 16, 24)
    results = []
    for function, x in zip((module, lambda value: plain(module, value)), inputs, strict=True):  # type: ignore[operator]
        module.zero_grad()
        y = function(x)
        (y * aim).sum().backward()
        results.append((y.detach(), x.grad, [parameter.grad.clone() for parameter in module.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-4)
    for fast, slow in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


def test_four_taps_have_the_widths_they_announce() -> None:
    network = FusionNetwork(SMALL)
    _, taps = network.forward_features(torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64))
    assert [tap.shape[1] for tap in taps] == network.tap_widths
    assert [tap.shape[2] for tap in taps] == [64, 32, 16, 8]


def test_the_text_changes_the_picture_and_is_required_exactly_when_there_is_a_condition() -> None:
    torch.manual_seed(0)
    teacher = FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=32))
    pair = torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        assert not torch.equal(teacher(*pair, torch.randn(1, 32)), teacher(*pair, torch.randn(1, 32)))
    with pytest.raises(WeightsError, match="needs a text"):
        teacher(*pair)
    with pytest.raises(WeightsError, match="takes no text"):
        FusionNetwork(SMALL)(*pair, torch.randn(1, 32))


@pytest.mark.parametrize("size", [(8, 8), (8, 200), (9, 13), (63, 65), (64, 64), (161, 97), (200, 199)])
@pytest.mark.parametrize("name", ["fusion", "edge"])
def test_an_identity_returns_its_input_bit_for_bit(name: str, size: tuple[int, int]) -> None:
    network = identity(name)
    visible, infrared = torch.rand(1, 3, *size), torch.rand(1, 1, *size)
    assert torch.equal(run(network, visible, infrared), visible)


@pytest.mark.slow  # 2 x 193 x 193 sizes
@pytest.mark.parametrize("height", range(8, 201))
@pytest.mark.parametrize("name", ["fusion", "edge"])
def test_an_identity_returns_its_input_at_every_size(name: str, height: int) -> None:
    network = identity(name)
    if isinstance(network, FusionNetwork):
        without_blocks(network)
    whole = torch.rand(1, 4, height, 200)
    for width in range(8, 201):
        visible, infrared = whole[:, :3, :, :width], whole[:, 3:, :, :width]
        assert torch.equal(run(network, visible, infrared), visible), width


@pytest.mark.parametrize("size", [(300, 431), (193, 200), (8, 193)])
@pytest.mark.parametrize("name", ["fusion", "edge"])
def test_a_tiled_identity_returns_its_input_bit_for_bit(name: str, size: tuple[int, int]) -> None:
    visible, infrared = torch.rand(1, 3, *size), torch.rand(1, 1, *size)
    network = identity(name)
    if isinstance(network, FusionNetwork) and min(size) > 8:
        without_blocks(network)
    assert torch.equal(run(network, visible, infrared, tile=192), visible)


def identity(name: str) -> nn.Module:
    network = FusionNetwork(SMALL) if name == "fusion" else NETWORKS["nano"].build()
    if isinstance(network, FusionNetwork):
        nn.init.zeros_(network.output.weight)
    else:
        nn.init.constant_(network.head.bias, 0.0)  # type: ignore[union-attr,arg-type]
        with torch.no_grad():
            network.head.bias[:4] = 100.0  # type: ignore[union-attr,index]
    return network.eval()


def without_blocks(network: FusionNetwork) -> None:
    """Leave what handles sizes (padding, sampling down and up, the cross fusion's windows), so that it takes milliseconds."""
    for encoder in (network.visible_encoder, network.infrared_encoder):
        encoder.levels = nn.ModuleList(nn.Identity() for _ in encoder.levels)
    network.decoder = nn.ModuleList(nn.Identity() for _ in network.decoder)
    network.refine = nn.Sequential()
    network.fuse = nn.ModuleList(FUSIONS["fixed"](SMALL.width * 2**level) for level in range(4))


def test_tiles_of_a_convolutional_network_equal_the_whole() -> None:
    torch.manual_seed(0)
    network = NETWORKS["edge"].build().eval()
    nn.init.normal_(network.head.weight, std=0.05)  # type: ignore[union-attr,arg-type]
    visible, infrared = torch.rand(1, 3, 320, 416), torch.rand(1, 1, 320, 416)
    whole, tiled = run(network, visible, infrared), run(network, visible, infrared, tile=256)
    assert (whole - tiled).abs().max() <= 1 / 255


@pytest.mark.parametrize(("length", "tile"), [(8, 192), (193, 192), (500, 200), (900, 383), (900, 384), (4000, 500)])
def test_tiles_cover_everything_and_their_weights_sum_to_one(length: int, tile: int) -> None:
    spans = tile_spans(length, tile)
    assert spans[0][0] == 0 and spans[-1][1] == length
    shared = 2 * OVERLAP if tile >= 384 else OVERLAP  # large tiles can afford to keep more of what surrounds them
    assert all(before[1] - after[0] >= shared for before, after in pairwise(spans))
    assert all(start % GRID == 0 and stop - start <= tile for start, stop in spans), "windows lie as in the whole image"
    torch.testing.assert_close(blend_weights(spans, length).sum(0), torch.ones(length))


def test_sizes_that_cannot_work_are_refused() -> None:
    network = NETWORKS["nano"].build()
    with pytest.raises(InputError, match="at least 8"):
        run(network, torch.rand(1, 3, 1, 1), torch.rand(1, 1, 1, 1))
    with pytest.raises(InputError, match="differ in size"):
        run(network, torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 17))


def test_flops_of_one_convolution_by_hand() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 5, 3, padding=1)

        def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
            return self.conv(torch.cat([visible, infrared], dim=1))

    assert count_gflops(One(), (10, 20)) == pytest.approx(2 * 4 * 5 * 9 * 10 * 20 / 1e9)


def test_flops_are_those_of_known_implementations() -> None:
    """Their figure for 640 x 480 is of 640 x 448: they cut images to multiples of 64 where this network pads, to 512.

    Within 5 %: the fast attention takes fewer products of channels and a few more for positions.
    """
    for name, small, large in (("student", 65, 285), ("teacher", 442, 1933)):
        network = NETWORKS[name].build()
        assert large / small == pytest.approx(448 * 640 / 256**2, rel=0.01)
        assert count_gflops(network, (448, 640)) == pytest.approx(large, rel=0.05)
    assert count_gflops(network, (480, 640)) == pytest.approx(count_gflops(network, (448, 640)) * 512 / 448, rel=1e-3)


def test_weights_survive_a_round_trip(tmp_path: Path) -> None:
    network = FusionNetwork(SMALL).eval()
    save_weights(tmp_path / "w", network, "# card\n", {"task": "ivf"})
    loaded = load_weights(tmp_path / "w")
    pair = torch.rand(1, 3, 40, 40), torch.rand(1, 1, 40, 40)
    assert torch.equal(run(loaded.network, *pair), run(network, *pair))
    assert loaded.config["task"] == "ivf"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"not tensors"), "SHA-256"),
        (lambda folder: (folder / "model.safetensors").unlink(), "missing"),
        (lambda folder: (folder / "config.json").unlink(), "not a folder of weights"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text('{"format": 99}'), "format 99"),
        (lambda folder: edit(folder, family="fusionn"), "unknown network family"),
        (lambda folder: edit(folder, family=["fusion"]), "unknown network family"),
        (lambda folder: edit(folder, config={"width": "8"}), "setting width: '8', expected int"),
        (lambda folder: edit(folder, config={"width": True}), "setting width: True, expected int"),
        (lambda folder: edit(folder, config={"width": 8, "expansion": -1}), "setting expansion: -1, expected float"),
        (lambda folder: edit(folder, config={"width": 8, "text_width": 2.5}), r"text_width: 2.5, expected int \| None"),
        (
            lambda folder: edit(folder, config={"width": 16, "expansion": 1.0, "refinement": 1, "text_width": None}),
            "fit|is",
        ),
        (
            lambda folder: edit(folder, config={"refinement": 10**7}),
            "setting refinement: 10000000, expected int, 0 to 1024",
        ),
        (  # each setting is in its range, and together they are thousands of gigabytes
            lambda folder: edit(folder, config={"width": 1024, "expansion": 1024, "refinement": 1, "text_width": None}),
            r"visible_encoder\.stem\.weight is \(8, 3, 3, 3\), expected \(1024, 3, 3, 3\)",
        ),
        (lambda folder: edit(folder, config={"width": 8, "expansion": float("nan")}), "setting expansion: nan"),
        (
            lambda folder: edit(folder, config={"width": 8, "expansion": 0.1}),
            "expansion 0.1 of width 8: no hidden channel",
        ),
        (lambda folder: edit(folder, config={"widht": 16}), "did you mean 'width'"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, spoil: object, message: str) -> None:
    save_weights(tmp_path / "w", FusionNetwork(SMALL), "# card\n")
    spoil(tmp_path / "w")  # type: ignore[operator]
    with pytest.raises(WeightsError, match=message):
        load_weights(tmp_path / "w")


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    network = FusionNetwork(SMALL)
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    save_weights(tmp_path / "w", network, "# card\n")
    with pytest.raises(
        WeightsError, match=r"model.safetensors: visible_encoder.stem.weight holds numbers that are not finite"
    ):
        load_weights(tmp_path / "w")


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(WeightsError, match="not a folder"):
        load_weights("no-such-weights")
