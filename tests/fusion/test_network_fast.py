"""The fast network equals the straightforward one; tiles meet; memory stays within bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion import bands, window_attention
from fusion.attention import SpatialAttention
from fusion.cost import measure_peak_memory
from fusion.network import FusionNetwork, NetworkConfig
from fusion.tiling import GRID, SAMPLE_PIXELS, run, sample_crops
from fusion.window_attention import attend_windows
from fusion.windows import REACH, WINDOW, attend_at_once, overlapping

sys.path.insert(0, str(Path(__file__).parent / "oracles"))
from straightforward import straightforward

STUDENT = NetworkConfig(width=8, expansion=2.0, refinement=0, text_width=None)
TEACHER = NetworkConfig(width=8, expansion=2.66, refinement=1, text_width=12)


def pair(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    visible = torch.rand(batch, 3, height, width, generator=generator)
    return visible, torch.rand(batch, 1, height, width, generator=generator)


@pytest.mark.parametrize(("config", "kept"), [(STUDENT, 1 << 30), (TEACHER, 0)], ids=["student", "teacher recomputing"])
def test_the_whole_network_equals_the_straightforward_one_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, config: NetworkConfig, kept: int
) -> None:
    monkeypatch.setattr(window_attention, "KEPT_BYTES", kept)
    torch.manual_seed(0)
    fast = FusionNetwork(config).double()
    slow = straightforward(fast).double()
    inputs = [part.double() for part in pair(64, 64, batch=2)]
    if config.text_width:
        inputs.append(torch.randn(2, config.text_width, dtype=torch.float64))
    outputs = [network(*inputs) for network in (fast, slow)]
    torch.testing.assert_close(*outputs, atol=1e-10, rtol=1e-10)
    for output in outputs:
        output.square().mean().backward()
    for (name, one), other in zip(fast.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-10, rtol=1e-7, msg=lambda text, n=name: f"{n}: {text}")


def test_in_single_precision_both_agree_to_1e5_forward_and_backward() -> None:
    torch.manual_seed(0)
    fast = FusionNetwork(STUDENT)
    slow = straightforward(fast)
    inputs = pair(64, 64)
    outputs = [network(*inputs) for network in (fast, slow)]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    for output in outputs:
        output.square().mean().backward()
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() <= 1e-5 * max(1.0, float(other.grad.abs().max()))


TINY = NetworkConfig(width=8, expansion=1.0, refinement=0, text_width=None)


def assert_equal_at(height: int, width: int) -> None:
    """The fast network, padding by itself, against the straightforward one on images padded here."""
    torch.manual_seed(height * 1000 + width)
    fast = FusionNetwork(TINY).double().eval()
    images = [part.double() for part in pair(height, width)]
    missing = [-height % 64, -width % 64]
    reflects = missing[0] < height and missing[1] < width
    spans = [(0, 0), (0, 0), *((0, part) for part in missing)]
    padded = [torch.from_numpy(np.pad(image.numpy(), spans, "reflect" if reflects else "edge")) for image in images]
    with torch.inference_mode():
        slow = straightforward(fast).double()(*padded)[:, :, :height, :width]
        torch.testing.assert_close(fast(*images), slow, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("size", [(8, 8), (33, 32), (64, 9), (70, 65)])
def test_at_odd_sizes_the_fast_network_equals_the_straightforward_one(size: tuple[int, int]) -> None:
    assert_equal_at(*size)


@pytest.mark.slow  # every height with a width that differs, every width with a height
@pytest.mark.parametrize("height", range(8, 201))
def test_at_every_height_and_width_both_are_equal(height: int) -> None:
    assert_equal_at(height, 8 + (height - 8) * 61 % 193)  # 61 and 193 have no common factor: every width comes once


def test_bands_without_gradients_equal_the_map_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    fast = FusionNetwork(STUDENT).eval()
    inputs = pair(64, 64, batch=2)
    with torch.inference_mode():
        slow = straightforward(fast)(*inputs)
        for size in (1, 1 << 15, 1 << 30):  # a band per window row, a few bands, one band
            monkeypatch.setattr(bands, "BAND_BYTES", size)
            torch.testing.assert_close(fast(*inputs), slow, atol=1e-5, rtol=1e-5)


def test_overlapping_windows_for_exporters_are_those_of_unfold() -> None:
    padded = torch.rand(2, 28, 20, 6)
    expected = padded.unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW).permute(0, 1, 4, 2, 5, 3)
    assert torch.equal(overlapping(overlapping(padded, 1, 3), 3, 2), expected)


def test_window_attention_at_once_equals_the_one_in_steps() -> None:
    torch.manual_seed(0)
    layer = SpatialAttention(16, heads=2)
    qkv = torch.randn(2, 20, 28, 96)
    tables = torch.cat([layer.relative_height[2:21], layer.relative_width[2:21]]).detach()
    with torch.no_grad():
        steps = attend_windows(qkv, layer.relative_height, layer.relative_width, 2)
    torch.testing.assert_close(attend_at_once(qkv, tables, 2), steps, atol=1e-5, rtol=1e-5)


def test_tiles_share_their_statistics_and_differ_from_the_whole_only_near_their_borders() -> None:
    torch.manual_seed(0)
    network = FusionNetwork(NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=None)).eval()
    with torch.no_grad():
        network.output.weight.mul_(0.2)  # a change of trained size: about a tenth of full brightness
    coarse = torch.rand(1, 4, 12, 18, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 448), mode="bicubic").clamp(0, 1)
    whole = run(network, smooth[:, :3], smooth[:, 3:])
    tiled = run(network, smooth[:, :3], smooth[:, 3:], tile=256)
    assert (whole - smooth[:, :3]).std() > 0.02
    difference = (whole - tiled).abs().amax(dim=(0, 1, 2))
    assert float(difference[:128].max()) <= 1 / 255  # tiles meet at 192 to 256; 64 pixels on each side are the halo
    assert float(difference[320:].max()) <= 1 / 255


@pytest.mark.parametrize("size", [(8, 8), (1000, 1000), (3000, 4000), (100, 40000), (1080, 1920)])
def test_crops_for_statistics_are_bounded_and_inside(size: tuple[int, int]) -> None:
    crops = sample_crops(*size)
    shapes = {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in crops}
    assert len(shapes) == 1
    assert sum(height * width for height, width in shapes) * len(crops) <= SAMPLE_PIXELS
    assert all(part.start >= 0 and part.stop <= side for crop in crops for part, side in zip(crop, size, strict=True))
    assert all(part.start % GRID == 0 for crop in crops for part in crop), "windows lie as in the whole image"


PEAK = """
import sys, torch
torch.set_num_threads(2)
from fusion.catalog import network_entry
from fusion.cost import peak_resident
from fusion.tiling import run
name, height, width, tile = sys.argv[1], *map(int, sys.argv[2:])
network = network_entry(name).build().eval()
run(network, torch.rand(1, 3, height, width), torch.rand(1, 1, height, width), tile=tile)
print(peak_resident())
"""


@pytest.mark.slow  # twelve million pixels through the d16 student take minutes
@pytest.mark.parametrize(("name", "limit"), [("student", 4096), ("edge", 2048)])
def test_a_pair_of_4000_x_3000_is_fused_within_its_memory(name: str, limit: int) -> None:
    command = [sys.executable, "-c", PEAK, name, "3000", "4000", "512"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert float(done.stdout) <= limit


@pytest.mark.slow  # two processes that load torch
def test_a_measured_peak_leaves_out_what_the_parent_holds() -> None:
    alone = measure_peak_memory("nano", (480, 640))
    held = torch.ones(1 << 27)  # half a GiB
    assert measure_peak_memory("nano", (480, 640)) == pytest.approx(alone, rel=0.3)
    assert held[0] == 1 and alone > 10
