"""The modules that make one map of two (Table 5): each against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.feature_fusion import FUSIONS, CrossFusion
from plain_attention import plain_channel_attention, plain_spatial_attention


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_fusion_module_makes_one_map_of_two(fusion: str) -> None:
    a, b = torch.rand(1, 16, 16, 16), torch.rand(1, 16, 16, 16)
    assert FUSIONS[fusion](16)(a, b).shape == a.shape


def convolved(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Every neighbourhood times the kernel, zeros outside."""
    size = layer.kernel_size[0]
    return (layer.weight.flatten(1) @ functional.unfold(x, size, padding=size // 2)).unflatten(2, x.shape[-2:])


def test_fixed_fusion_weighs_each_pixel_by_the_share_of_its_activity() -> None:
    a, b = torch.full((1, 4, 2, 3), 3.0), torch.full((1, 4, 2, 3), -1.0)
    a[..., 1, 2] = b[..., 1, 2] = 0
    fused = FUSIONS["fixed"](4)(a, b)
    expected = torch.full((1, 4, 2, 3), 0.75 * 3 + 0.25 * -1)
    expected[..., 1, 2] = 0
    torch.testing.assert_close(fused, expected)


def test_the_learnt_fusions_agree_with_their_formulas() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 16, 8, 16), torch.rand(2, 16, 8, 16)
    both = torch.cat([a, b], dim=1)
    ours, concat, dynamic, multiscale = (FUSIONS[name](16) for name in ("ours", "concat", "dynamic", "multiscale"))
    weights = concat.out.weight[:, :, 0, 0]
    expected = torch.einsum("oc,nchw->nohw", weights[:, :16], a) + torch.einsum("oc,nchw->nohw", weights[:, 16:], b)
    torch.testing.assert_close(concat(a, b), expected)
    first, _, second = dynamic.gate
    hidden = (both.mean(dim=(2, 3)) @ first.weight.T + first.bias).clamp(min=0)
    gate = 1 / (1 + torch.exp(-(hidden @ second.weight.T + second.bias)))
    expected = torch.einsum("oc,nc,nchw->nohw", dynamic.out.weight[:, :, 0, 0], gate, both)
    torch.testing.assert_close(dynamic(a, b), expected)
    scales = [convolved(scale, both) for scale in multiscale.scales]
    assert [scale.kernel_size[0] for scale in multiscale.scales] == [1, 3, 5]
    expected = sum(scale * (1 + torch.erf(scale / 2**0.5)) / 2 for scale in scales)
    torch.testing.assert_close(multiscale(a, b), expected)
    attended = plain_channel_attention(ours.channel, both) + plain_spatial_attention(ours.spatial, both)
    torch.testing.assert_close(ours(a, b), convolved(ours.out, attended), rtol=1e-4, atol=1e-5)


def test_cross_fusion_keeps_its_own_spatial_map_and_takes_the_others_channel_map() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(1, 16, 8, 8), torch.rand(1, 16, 8, 8)
    cross = CrossFusion(16)
    for own, other, merged, place in ((a, b, cross(a, b)[0], 0), (b, a, cross(a, b)[1], 1)):
        spatial = plain_spatial_attention(cross.spatial[place], own)
        channel = plain_channel_attention(cross.channel[1 - place], other)
        expected = convolved(cross.merge[place], torch.cat([spatial, channel], dim=1))
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
