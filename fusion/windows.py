"""The overlapping windows of the spatial attention, and that attention with all windows at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 8  # queries come from windows of 8 x 8
REACH = 12  # keys and values from 12 x 12 around them: an overlap of one half
MARGIN = (REACH - WINDOW) // 2
QUERIES = WINDOW * WINDOW
KEYS = REACH * REACH
POSITIONS = 2 * REACH
OFFSETS = WINDOW + REACH - 1  # row (or column) offsets that occur: key − query from −7 to 11


def inside(qkv: Tensor) -> Tensor:
    """The queries of (N, H + 4, W + 4, 3·inner) maps, without their margin: (N, H, W, inner), a view."""
    return qkv[:, MARGIN:-MARGIN, MARGIN:-MARGIN, : qkv.shape[-1] // 3]


def attend_at_once(qkv: Tensor, tables: Tensor, heads: int) -> Tensor:
    """All windows in one call of the fused attention; for devices with kernels for it, compilers and exporters.

    ``qkv`` as for ``attend_windows``; ``tables`` (38, e): the used part of the row table, then of the column table.
    """
    inner = qkv.shape[-1] // 3
    queries, keys_values = inside(qkv), qkv[..., inner:]
    n, h, w, _ = queries.shape
    e, rows, columns = inner // heads, h // WINDOW, w // WINDOW
    q = queries.reshape(n, rows, WINDOW, columns, WINDOW, heads, e).permute(0, 1, 3, 5, 2, 4, 6) * e**-0.5
    offset = torch.arange(REACH, device=q.device)[None] - torch.arange(WINDOW, device=q.device)[:, None] + WINDOW - 1
    by_row = torch.einsum("...hwe,hje->...hwj", q, tables[:OFFSETS][offset])
    by_column = torch.einsum("...hwe,wje->...hwj", q, tables[OFFSETS:][offset])
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(4, 5).flatten(-2)
    windows = (
        _all_windows(keys_values, rows, columns)
        .reshape(n, rows, REACH, columns, REACH, heads, 2, e)
        .permute(6, 0, 1, 3, 5, 2, 4, 7)
    )
    k, v = windows.reshape(2, n * rows * columns, heads, KEYS, e).unbind(0)
    q, bias = q.flatten(4, 5).flatten(0, 2), bias.flatten(0, 2)
    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    y = y.reshape(n, rows, columns, heads, WINDOW, WINDOW, e).permute(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(n, h, w, inner)


def _all_windows(padded: Tensor, rows: int, columns: int) -> Tensor:
    """(N, H + 4, W + 4, C) as (N, rows, 12, columns, 12, C)."""
    if torch._C._get_tracing_state() is None:
        return padded.unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW).permute(0, 1, 4, 2, 5, 3)
    return overlapping(overlapping(padded, 1, rows), 3, columns)


def overlapping(padded: Tensor, axis: int, count: int) -> Tensor:
    """``padded.unfold(axis, REACH, WINDOW)`` with the 12 places after ``axis`` instead of last: (…, count, 12, …).

    Put together from blocks of 8 and the starts of the next, in operations that every exporter knows for any size.
    """
    before, after = padded.shape[:axis], padded.shape[axis + 1 :]
    room = [0, 0] * (padded.ndim - axis - 1) + [0, WINDOW - 2 * MARGIN]
    blocks = functional.pad(padded, room).reshape(*before, count + 1, WINDOW, *after)
    starts = blocks.narrow(axis, 1, count).narrow(axis + 1, 0, REACH - WINDOW)
    return torch.cat([blocks.narrow(axis, 0, count), starts], dim=axis + 1)
