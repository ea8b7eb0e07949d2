"""The two attentions of a block: over channels (Restormer's MDTA) and over overlapping windows (X-Restormer's OCA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 8  # queries come from windows of 8 x 8
REACH = 12  # keys and values from 12 x 12 around them: an overlap of one half
MARGIN = (REACH - WINDOW) // 2


class ChannelAttention(nn.Module):
    """Attention between channels: every channel is a token, its pixels are the features (Restormer, Eq. 1).

    (N, C, H, W) to (N, C, H, W); C must divide by ``heads``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.to_qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.depthwise = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.out = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.depthwise(self.to_qkv(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.unbind(1)
        # Normalising the small product by the two norms equals normalising q and k along their pixels.
        norms = q.norm(dim=-1).clamp_min(1e-12).unsqueeze(-1) * k.norm(dim=-1).clamp_min(1e-12).unsqueeze(-2)
        attention = (self.temperature * (q @ k.transpose(-2, -1)) / norms).softmax(dim=-1)
        y: Tensor = self.out((attention @ v).reshape(n, c, h, w))
        return y


class SpatialAttention(nn.Module):
    """Attention inside windows that see beyond their border, with relative positions (X-Restormer).

    (N, C, H, W) to (N, C, H, W); H and W must divide by WINDOW. Outside the image keys and values are zero.

    The position logits are ``q · height[dy] + q · width[dx]``. They ride along as 24 extra features: the query carries
    its 12 + 12 logits, the key the one-hot of its row and column. So one fused attention does it all, and neither the
    64 x 144 logits nor a bias of that size is ever stored.
    """

    def __init__(self, width: int, heads: int, head_width: int = 16) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.to_qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        self.relative_height = nn.Parameter(torch.randn(2 * REACH - 1, head_width) * head_width**-0.5)
        self.relative_width = nn.Parameter(torch.randn(2 * REACH - 1, head_width) * head_width**-0.5)
        self.out = nn.Conv2d(inner, width, 1, bias=False)
        # offset[i, j]: the table's row for a query at i and a key at j of the reach
        offset = torch.arange(REACH)[None, :] - torch.arange(WINDOW)[:, None] + REACH - 1 - MARGIN
        self.register_buffer("offset", offset, persistent=False)
        eye = torch.eye(REACH)
        places = torch.cat([eye.repeat_interleave(REACH, 0), eye.repeat(REACH, 1)], dim=1)
        self.register_buffer("places", places, persistent=False)
        self.offset: Tensor
        self.places: Tensor

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows, columns = h // WINDOW, w // WINDOW
        q, k, v = self.to_qkv(x).chunk(3, dim=1)
        q = q.reshape(n, self.heads, self.head_width, rows, WINDOW, columns, WINDOW)
        q = q.permute(0, 3, 5, 1, 4, 6, 2) * self.head_width**-0.5  # n, rows, columns, heads, 8, 8, e
        by_row = torch.einsum("...hwe,hje->...hwj", q, self.relative_height[self.offset])
        by_column = torch.einsum("...hwe,wje->...hwj", q, self.relative_width[self.offset])
        q = torch.cat([q, by_row, by_column], dim=-1).flatten(4, 5).flatten(0, 2)
        k, v = self._reach(k), self._reach(v)
        k = torch.cat([k, self.places.to(k.dtype).expand(*k.shape[:-1], 2 * REACH)], dim=-1)
        v = functional.pad(v, (0, 2 * REACH))  # the fused kernel wants one width for all three
        y = functional.scaled_dot_product_attention(q, k, v, scale=1.0)[..., : self.head_width]
        y = y.reshape(n, rows, columns, self.heads, WINDOW, WINDOW, self.head_width)
        z: Tensor = self.out(y.permute(0, 3, 6, 1, 4, 2, 5).reshape(n, -1, h, w))
        return z

    def _reach(self, x: Tensor) -> Tensor:
        """(N, heads·e, H, W) to (N·windows, heads, 144, e): strided views, gathered once."""
        n = x.shape[0]
        windows = functional.pad(x, (MARGIN,) * 4).unfold(2, REACH, WINDOW).unfold(3, REACH, WINDOW)
        rows, columns = windows.shape[2:4]
        windows = windows.reshape(n, self.heads, self.head_width, rows, columns, REACH, REACH)
        return windows.permute(0, 3, 4, 1, 5, 6, 2).reshape(n * rows * columns, self.heads, REACH * REACH, -1)
