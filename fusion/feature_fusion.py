"""How the features of the two modalities become one map: the five rows of the paper's Table 5, and Eq. 6-8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.attention import ChannelAttention, SpatialAttention
from fusion.blocks import CHANNEL_HEADS, SPATIAL_HEADS


class CrossFusion(nn.Module):
    """Spatial-channel cross fusion at the coarsest level (Eq. 6-8).

    Each modality gives a spatially and a channel-attended map; it keeps the first and takes the other's second.
    Two (N, C, H, W) maps in, two out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(SpatialAttention(width, SPATIAL_HEADS[3]) for _ in range(2))
        self.channel = nn.ModuleList(ChannelAttention(width, CHANNEL_HEADS[3]) for _ in range(2))
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=False) for _ in range(2))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        merged_a = self.merge[0](torch.cat([self.spatial[0](a), self.channel[1](b)], dim=1))
        merged_b = self.merge[1](torch.cat([self.spatial[1](b), self.channel[0](a)], dim=1))
        return merged_a, merged_b


class AttentionFusion(nn.Module):
    """ "Ours" of Table 5: channel plus spatial attention over both maps together, 3x3 to C."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(2 * width, heads=8)
        self.spatial = SpatialAttention(2 * width, heads=4, head_width=32)
        self.out = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a, b], dim=1)
        y: Tensor = self.out(self.channel(both) + self.spatial(both))
        return y


class ConcatFusion(nn.Module):
    """Concatenation and 1x1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        y: Tensor = self.out(torch.cat([a, b], dim=1))
        return y


class FixedFusion(nn.Module):
    """Weights that nobody learns: each pixel by the share of its l1 activity, as in DenseFuse."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        activity = torch.stack([a, b]).abs().mean(dim=2, keepdim=True)
        weights = activity / activity.sum(dim=0).clamp_min(1e-12)
        return weights[0] * a + weights[1] * b


class DynamicFusion(nn.Module):
    """A 1x1 whose output channels are scaled by weights read off the global means of both maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(2 * width, width // 2), nn.ReLU(), nn.Linear(width // 2, 2 * width))
        self.out = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a, b], dim=1)
        y: Tensor = self.out(both * self.gate(both.mean(dim=(2, 3))).sigmoid()[:, :, None, None])
        return y


class MultiscaleFusion(nn.Module):
    """Parallel 1x1, 3x3 and 5x5 convolutions, summed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nn.Conv2d(2 * width, width, k, padding=k // 2, bias=False) for k in (1, 3, 5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat([a, b], dim=1)
        first, second, third = (functional.gelu(scale(both)) for scale in self.scales)
        return first + second + third


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "ours": AttentionFusion,
    "concat": ConcatFusion,
    "fixed": FixedFusion,
    "dynamic": DynamicFusion,
    "multiscale": MultiscaleFusion,
}
