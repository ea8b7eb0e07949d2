"""The block both networks are made of, and its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.attention import ChannelAttention, SpatialAttention, depthwise, pointwise
from fusion.bands import Band, by_bands, to_planes, to_rows

CHANNEL_HEADS = (1, 2, 4, 8)  # by level, finest first
SPATIAL_HEADS = (2, 2, 3, 4)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel; (N, H, W, C) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class GatedFeedForward(nn.Module):
    """Restormer's GDFN: 1x1 up to two halves, depthwise 3x3, gelu of one gates the other, 1x1 back.

    The halves are computed apart: each is then one contiguous tensor, which the pointwise steps run through several
    times faster than through two halves that lie interleaved.
    """

    def __init__(self, width: int, expansion: float) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.up = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.down = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        return to_planes(self.rows(to_rows(x)))

    def rows(self, x: Tensor, norm: nn.Module | None = None, out: Tensor | None = None) -> Tensor:
        """(N, H, W, C) to the same; with ``norm``, ``x + f(norm(x))``. ``out`` may take the result."""
        (gate_up, value_up), (gate_kernel, value_kernel) = self.up.weight.chunk(2), self.depthwise.weight.chunk(2)

        def one(band: Band) -> Tensor:
            part = x[:, band.read] if norm is None else norm(x[:, band.read])
            gate = functional.gelu(depthwise(pointwise(part, gate_up, "up"), gate_kernel)[:, band.inner])
            value = depthwise(pointwise(part, value_up, "up"), value_kernel)[:, band.inner]
            result = pointwise(gate * value if torch.is_grad_enabled() else gate.mul_(value), self.down.weight)
            return result if norm is None else result.add_(x[:, band.own])

        return by_bands(x, self.down.in_channels, 1, one, out)


class Block(nn.Module):
    """Channel attention, feed-forward, windowed spatial attention, feed-forward; each as ``x + f(norm(x))``."""

    def __init__(self, width: int, level: int, expansion: float) -> None:
        super().__init__()
        self.channel = ChannelAttention(width, CHANNEL_HEADS[level])
        self.spatial = SpatialAttention(width, SPATIAL_HEADS[level])
        self.feed1 = GatedFeedForward(width, expansion)
        self.feed2 = GatedFeedForward(width, expansion)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        first = self.channel.rows(to_rows(x), self.norms[0])
        second = self.feed1.rows(first, self.norms[1])
        reuse = not torch.is_grad_enabled()  # two maps in turn are enough when none is kept for a backward pass
        third = self.spatial.rows(second, self.norms[2], out=first if reuse else None)
        return to_planes(self.feed2.rows(third, self.norms[3], out=second if reuse else None))


class Down(nn.Module):
    """Half the size, twice the channels: 3x3 to C/2, then pixel-unshuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width // 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_unshuffle(self.conv(x), 2)


class Up(nn.Module):
    """Twice the size, half the channels: 3x3 to 2C, then pixel-shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.conv(x), 2)


class TextCondition(nn.Module):
    """Feature-wise modulation by the text (Eq. 9): ``(1 + γ) ⊙ F + β``; text is (N, D)."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(text_width, width), nn.ReLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        gamma, beta = self.layers(text)[:, :, None, None].chunk(2, dim=1)
        y: Tensor = (1 + gamma) * x + beta
        return y
