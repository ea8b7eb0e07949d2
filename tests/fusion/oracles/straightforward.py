"""The fusion network as its text describes it: unfold, einsum, whole maps; slow, and independent of the fast one.

Nothing here is shared with the package but the configuration; the parameter names are the same, so that one state
dict fits both. ``straightforward(network)`` is the oracle of the fast network, and the yardstick of its speed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        variance = (x - mean).square().mean(dim=1, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.weight[:, None, None] + self.bias[:, None, None]


class Channel(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.depthwise(self.to_qkv(x)).chunk(3, dim=1)
        q, k, v = (part.reshape(n, self.heads, c // self.heads, h * w) for part in (q, k, v))
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        attention = (torch.einsum("nhcp,nhdp->nhcd", q, k) * self.temperature).softmax(dim=-1)
        return self.out(torch.einsum("nhcd,nhdp->nhcp", attention, v).reshape(n, c, h, w))


class Spatial(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int = 16) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.to_qkv = nn.Conv2d(width, 3 * heads * head_width, 1, bias=False)
        self.relative_height = nn.Parameter(torch.empty(23, head_width))
        self.relative_width = nn.Parameter(torch.empty(23, head_width))
        self.out = nn.Conv2d(heads * head_width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        heads, e = self.heads, self.head_width
        q, k, v = self.to_qkv(x).chunk(3, dim=1)
        q = functional.unfold(q, 8, stride=8).reshape(n, heads, e, 8, 8, -1) * e**-0.5
        k, v = (functional.unfold(p, 12, padding=2, stride=8).reshape(n, heads, e, 12, 12, -1) for p in (k, v))
        logits = torch.einsum("nheijw,nheklw->nhwijkl", q, k)
        # Row i of the window is row i + 2 of the reach: the offset of key row k is k − 2 − i, the table starts at −11.
        offset = torch.arange(12)[None, :] - 2 - torch.arange(8)[:, None] + 11
        logits = logits + torch.einsum("nheijw,ike->nhwijk", q, self.relative_height[offset])[..., None]
        logits = logits + torch.einsum("nheijw,jle->nhwijl", q, self.relative_width[offset])[..., None, :]
        attention = logits.flatten(-2).softmax(dim=-1).reshape(logits.shape)
        y = torch.einsum("nhwijkl,nheklw->nheijw", attention, v).reshape(n, heads * e * 64, -1)
        return self.out(functional.fold(y, (h, w), 8, stride=8))


class Feed(nn.Module):
    def __init__(self, width: int, expansion: float) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.up = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.down = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depthwise(self.up(x)).chunk(2, dim=1)
        return self.down(functional.gelu(gate) * value)


class Block(nn.Module):
    def __init__(self, width: int, level: int, expansion: float) -> None:
        super().__init__()
        self.channel = Channel(width, (1, 2, 4, 8)[level])
        self.spatial = Spatial(width, (2, 2, 3, 4)[level])
        self.feed1 = Feed(width, expansion)
        self.feed2 = Feed(width, expansion)
        self.norms = nn.ModuleList(Norm(width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for norm, step in zip(self.norms, (self.channel, self.feed1, self.spatial, self.feed2), strict=True):
            x = x + step(norm(x))
        return x


class Sample(nn.Module):
    """Down (×½) or up (×2)."""

    def __init__(self, width: int, down: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width // 2 if down else 2 * width, 3, padding=1, bias=False)
        self.shuffle = functional.pixel_unshuffle if down else functional.pixel_shuffle

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x), 2)


class Encoder(nn.Module):
    def __init__(self, channels: int, d: int, e: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, d, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(nn.Sequential(*(Block(d * 2**i, i, e) for _ in range(2))) for i in range(4))
        self.downs = nn.ModuleList(Sample(d * 2**i, True) for i in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.levels[0](self.stem(x))]
        for i in range(3):
            maps.append(self.levels[i + 1](self.downs[i](maps[-1])))
        return maps


class Cross(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.ModuleList(Spatial(width, 4) for _ in range(2))
        self.channel = nn.ModuleList(Channel(width, 8) for _ in range(2))
        self.merge = nn.ModuleList(nn.Conv2d(2 * width, width, 1, bias=False) for _ in range(2))

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return (
            self.merge[0](torch.cat([self.spatial[0](a), self.channel[1](b)], dim=1)),
            self.merge[1](torch.cat([self.spatial[1](b), self.channel[0](a)], dim=1)),
        )


class Fuse(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.channel = Channel(2 * width, 8)
        self.spatial = Spatial(2 * width, 4, 32)
        self.out = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        z = torch.cat([a, b], dim=1)
        return self.out(self.channel(z) + self.spatial(z))


class Condition(nn.Module):
    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(text_width, width), nn.ReLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        gamma, beta = self.layers(text)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * x + beta


class StraightforwardNetwork(nn.Module):
    """Sides must divide by 64; feature fusion "ours"."""

    def __init__(self, width: int, expansion: float, refinement: int, text_width: int | None) -> None:
        super().__init__()
        d, e = width, expansion
        self.visible_encoder, self.infrared_encoder = Encoder(3, d, e), Encoder(1, d, e)
        self.cross = Cross(8 * d)
        self.fuse = nn.ModuleList(Fuse(d * 2**i) for i in range(4))
        self.ups = nn.ModuleList(Sample(d * 2**i, False) for i in (1, 2, 3))
        self.reduce = nn.ModuleList(nn.Conv2d(d * 2 ** (i + 1), d * 2**i, 1, bias=False) for i in (1, 2))
        widths = (2 * d, 2 * d, 4 * d, 8 * d)
        self.decoder = nn.ModuleList(nn.Sequential(*(Block(widths[i], i, e) for _ in range(2))) for i in range(4))
        self.refine = nn.Sequential(*(Block(2 * d, 0, e) for _ in range(refinement)))
        self.output = nn.Conv2d(2 * d, 3, 3, padding=1, bias=False)
        self.text = nn.ModuleList(Condition(text_width, d * 2**i) for i in range(4)) if text_width else None

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        a, b = self.visible_encoder(visible), self.infrared_encoder(infrared)
        a[3], b[3] = self.cross(a[3], b[3])
        fused = [fuse(*maps) for fuse, *maps in zip(self.fuse, a, b, strict=True)]
        x = self.decoder[3](self._condition(3, fused[3], text))
        for i in (2, 1, 0):
            x = torch.cat([self._condition(i, self.ups[i](x), text), fused[i]], dim=1)
            x = self.decoder[i](self.reduce[i - 1](x) if i else x)
        return visible + self.output(self.refine(x))

    def _condition(self, level: int, x: Tensor, text: Tensor | None) -> Tensor:
        return x if self.text is None else self.text[level](x, text)


def straightforward(network: nn.Module) -> StraightforwardNetwork:
    """The oracle of a ``FusionNetwork``, with its very parameters."""
    config = network.config
    oracle = StraightforwardNetwork(config.width, config.expansion, config.refinement, config.text_width)
    oracle.load_state_dict(network.state_dict())
    return oracle.train(network.training)
