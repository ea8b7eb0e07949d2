"""The two attentions of a block: over channels (Restormer's MDTA) and over overlapping windows (X-Restormer's OCA)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.bands import Band, by_bands, to_planes, to_rows
from fusion.shared_statistics import WholeImageLayer
from fusion.window_attention import attend_windows
from fusion.windows import MARGIN, REACH, WINDOW
from fusion.workspace import buffer

__all__ = ["MARGIN", "REACH", "WINDOW", "ChannelAttention", "SpatialAttention", "depthwise", "pointwise"]


class ChannelAttention(WholeImageLayer):
    """Attention between channels: every channel is a token, its pixels are the features (Restormer, Eq. 1).

    C must divide by ``heads``. Two matrix products over the pixels do it: the inner products of q and k, and v times one
    C × C matrix that already holds the attention and the output projection.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        return to_planes(self.rows(to_rows(x)))

    def rows(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """(N, H, W, C) to the same; with ``norm``, ``x + attention(norm(x))``."""
        c = x.shape[-1]
        weight, kernel = self.to_qkv.weight, self.depthwise.weight
        products = x.new_zeros(())

        def values(band: Band) -> Tensor:
            nonlocal products
            part = x[:, band.read] if norm is None else norm(x[:, band.read])
            q_k = depthwise(pointwise(part, weight[: 2 * c], "qk"), kernel[: 2 * c])[:, band.inner]
            products = products + self._products(q_k)
            return depthwise(pointwise(part, weight[2 * c :], "v"), kernel[2 * c :])[:, band.inner]

        v = by_bands(x, 3 * c, 1, values)
        matrix = self._matrix(products).to(v.dtype)

        def mixed(band: Band) -> Tensor:
            result = torch.matmul(v[:, band.own].flatten(1, 2), matrix).view(v[:, band.own].shape)
            return result if norm is None else result.add_(x[:, band.own])

        return by_bands(x, 3 * c, 0, mixed, out=v)  # a band's values are not read again once they are mixed

    def _products(self, q_k: Tensor) -> Tensor:
        """(N, heads, e, e + 2): sums over the pixels of q·k, for e channels of q and k each, then of q² and of k²."""
        n, h, w, c = q_k.shape
        e = c // 2 // self.heads
        tokens = q_k.reshape(n, h * w, 2, self.heads, e).permute(0, 3, 1, 2, 4).reshape(n * self.heads, h * w, 2 * e)
        if tokens.requires_grad and torch.is_grad_enabled():
            products: Tensor = _InnerProducts.apply(tokens)  # type: ignore[no-untyped-call]
        else:
            products = _inner_products(tokens)
        return products.view(n, self.heads, e, e + 2)

    def _matrix(self, products: Tensor) -> Tensor:
        """(N, C, C): softmax of the cosines of q and k, then the output projection."""
        products = self.over_all_tiles(products)
        e = products.shape[-2]
        # Dividing the products by the two norms equals normalising q and k along their pixels.
        norms = products[..., e:].clamp_min(1e-24).sqrt()
        cosines = products[..., :e] / (norms[..., :1] * norms[..., 1:].transpose(-2, -1))
        attention = (self.temperature * cosines).softmax(dim=-1)
        out = self.out.weight.flatten(1).t().reshape(self.heads, e, -1).to(attention.dtype)
        matrix: Tensor = attention.transpose(-2, -1) @ out
        return matrix.flatten(1, 2)


def _inner_products(tokens: Tensor) -> Tensor:
    """(B, e, e + 2) of (B, P, 2e) tokens, q beside k: q·k, q², k² summed over P."""
    q, k = tokens.chunk(2, dim=-1)
    squares = tokens.square().sum(dim=1).view(-1, 2, q.shape[-1]).transpose(1, 2)
    return torch.cat([torch.bmm(q.transpose(1, 2), k), squares], dim=-1)


class _InnerProducts(torch.autograd.Function):
    """``_inner_products`` with its gradient in one matrix product: [q k] · [[2 diag(q²'), q·k'], [q·k'ᵀ, 2 diag(k²')]]."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        return _inner_products(tokens)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (tokens,) = ctx.saved_tensors
        across = gradient[..., :-2]
        q_squares, k_squares = (2 * torch.diag_embed(part) for part in gradient[..., -2:].unbind(-1))
        rows = torch.cat([q_squares, across], dim=-1), torch.cat([across.transpose(1, 2), k_squares], dim=-1)
        return torch.bmm(tokens, torch.cat(rows, dim=1).to(tokens.dtype))


class SpatialAttention(nn.Module):
    """Attention inside windows of 8×8 that see 12×12, with relative positions (X-Restormer).

    H and W must divide by WINDOW. Outside the image keys and values are zero. The position logits are
    ``q · relative_height[dy] + q · relative_width[dx]``.
    """

    def __init__(self, width: int, heads: int, head_width: int = 16) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.to_qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.relative_height = nn.Parameter(_normal(2 * REACH - 1, head_width) * head_width**-0.5)
        self.relative_width = nn.Parameter(_normal(2 * REACH - 1, head_width) * head_width**-0.5)
        self.out = nn.Conv2d(inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        return to_planes(self.rows(to_rows(x)))

    def rows(self, x: Tensor, norm: nn.Module | None = None, out: Tensor | None = None) -> Tensor:
        """(N, H, W, C) to the same; with ``norm``, ``x + attention(norm(x))``. ``out`` may take the result."""
        weight = self._weight_by_head()

        def one(band: Band) -> Tensor:
            part = x[:, band.read] if norm is None else norm(x[:, band.read])
            above, below = MARGIN - (band.start - band.first), MARGIN - (band.last - band.stop)
            surrounded = functional.pad(part, (0, 0, MARGIN, MARGIN, above, below))
            qkv = pointwise(surrounded, weight, "qkv")
            attended = attend_windows(qkv, self.relative_height, self.relative_width, self.heads)
            result = pointwise(attended, self.out.weight)
            return result if norm is None else result.add_(x[:, band.own])

        return by_bands(x, 3 * self.heads * self.head_width, MARGIN, one, out)

    def _weight_by_head(self) -> Tensor:
        """The weight that gives q of every head, then k and v head by head: a window's k and v then lie side by side."""
        queries, *keys_values = self.to_qkv.weight.view(3, self.heads, self.head_width, -1)
        return torch.cat([queries.flatten(0, 1), torch.cat(keys_values, dim=1).flatten(0, 1)])


def pointwise(x: Tensor, weight: Tensor, name: str = "") -> Tensor:
    """1×1 convolution of (N, H, W, C) by (O, C, 1, 1); without gradients into the buffer ``name``, if one is named."""
    plain = not name or x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if plain or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, weight.flatten(1))
    result = buffer(f"pointwise {name}", (x.numel() // x.shape[-1], len(weight)), x)
    torch.mm(x.reshape(-1, x.shape[-1]), weight.flatten(1).t(), out=result)
    return result.view(*x.shape[:-1], len(weight))


def depthwise(x: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise 3×3 convolution with zero padding of (N, H, W, C) by (C, 1, 3, 3)."""
    return functional.conv2d(x.permute(0, 3, 1, 2), kernel, padding=1, groups=len(kernel)).permute(0, 2, 3, 1)


def _normal(*shape: int) -> Tensor:
    """Standard normal numbers, in memory even where a network is only measured ("meta"): there they load a compiler."""
    return torch.randn(*shape, device="cpu")
