"""Attention over overlapping windows without ever holding all windows, forward and backward.

A straightforward version unfolds keys and values (2.25 times their size) and keeps the logits of all windows (144 per
pixel and head, several copies of them in training). Here a few windows at a time pass through small buffers that stay
in the cache, and the backward pass computes the attention again instead of keeping it.

The relative-position logits need no pass of their own. With one-hot rows and columns appended to the keys and the
query's 12 row logits and 12 column logits appended to the query,

    [q, q·R_h, q·R_w] · [k, onehot(row), onehot(column)] = q·k + q·R_h[row offset] + q·R_w[column offset],

so one matrix product gives the complete logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusion.workspace import buffer

WINDOW = 8  # queries come from windows of 8 x 8
REACH = 12  # keys and values from 12 x 12 around them: an overlap of one half
MARGIN = (REACH - WINDOW) // 2
QUERIES = WINDOW * WINDOW
KEYS = REACH * REACH
POSITIONS = 2 * REACH
OFFSETS = WINDOW + REACH - 1  # row (or column) offsets that occur: key − query from −7 to 11
MATRICES = 64  # windows × heads per step: about 2.4 MB of logits


def attend_windows(
    qkv: Tensor, relative_height: Tensor, relative_width: Tensor, heads: int, rows: slice | None = None
) -> Tensor:
    """Attention of ``rows`` (all by default; they start and stop on the window grid) to everything around them.

    ``qkv`` (N, H, W, 3·heads·e) holds q, k, v side by side. The tables (23, e) hold a vector for every offset of the
    key's pixel from the query's, −11 to 11. Returns (N, rows, W, heads·e).
    """
    rows = rows or slice(0, qkv.shape[1])
    used = slice(MARGIN, MARGIN + OFFSETS)  # offsets −9 to 9 of −11 to 11
    tables = torch.cat([relative_height[used], relative_width[used]]).to(qkv.dtype)
    if qkv.device.type != "cpu" or torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return _at_once(qkv, tables, heads, rows)
    if torch.is_grad_enabled() and (qkv.requires_grad or tables.requires_grad):
        attended: Tensor = _WindowAttention.apply(qkv, tables, heads)  # type: ignore[no-untyped-call]
        return attended[:, rows]
    return _forward(qkv, tables, heads, rows)


def _at_once(qkv: Tensor, tables: Tensor, heads: int, chosen: slice) -> Tensor:
    """All windows in one call of the fused attention; for devices with kernels for it, compilers and exporters."""
    inner = qkv.shape[-1] // 3
    queries = qkv[:, chosen, :, :inner]
    above, below = MARGIN - chosen.start, MARGIN - (qkv.shape[1] - chosen.stop)
    keys_values = functional.pad(qkv[..., inner:], (0, 0, MARGIN, MARGIN, above, below))
    n, h, w, _ = queries.shape
    e, rows, columns = inner // heads, h // WINDOW, w // WINDOW
    q = queries.reshape(n, rows, WINDOW, columns, WINDOW, heads, e).permute(0, 1, 3, 5, 2, 4, 6) * e**-0.5
    offset = torch.arange(REACH, device=q.device)[None] - torch.arange(WINDOW, device=q.device)[:, None] + WINDOW - 1
    by_row = torch.einsum("...hwe,hje->...hwj", q, tables[:OFFSETS][offset])
    by_column = torch.einsum("...hwe,wje->...hwj", q, tables[OFFSETS:][offset])
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(4, 5).flatten(-2)
    windows = keys_values.view(*keys_values.shape[:3], 2, heads, e).unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW)
    k, v = windows.permute(3, 0, 1, 2, 4, 6, 7, 5).reshape(2, n * rows * columns, heads, KEYS, e).unbind(0)
    q, bias = q.flatten(4, 5).flatten(0, 2), bias.flatten(0, 2)
    y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
    y = y.reshape(n, rows, columns, heads, WINDOW, WINDOW, e).permute(0, 1, 4, 2, 5, 3, 6)
    return y.reshape(n, h, w, inner)


class _Steps:
    """Views of the maps by window, the order in which they are worked through, and the buffers for one step."""

    def __init__(self, queries: Tensor, keys_values: Tensor, heads: int) -> None:
        batch, height, width, inner = queries.shape
        self.heads = heads
        self.width = inner // heads
        self.scale = self.width**-0.5
        self.like = queries
        self.counts = (batch, height // WINDOW, width // WINDOW)
        self.queries = self.by_window(queries)
        split = keys_values.view(*keys_values.shape[:3], 2, heads, self.width)
        # (N, rows, columns, 2, heads, c, 12, 12) → (2, N, rows, columns, heads, 12, 12, c)
        self.keys, self.values = (
            split.unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW).permute(3, 0, 1, 2, 4, 6, 7, 5).unbind(0)
        )
        columns = min(self.counts[2], max(1, MATRICES // heads))
        rows = min(self.counts[1], max(1, MATRICES // (heads * columns)))
        batches = min(batch, max(1, MATRICES // (heads * columns * rows)))
        self.sizes = (batches, rows, columns)

    def by_window(self, features: Tensor) -> Tensor:
        """(N, rows·8, columns·8, heads·c) as (N, rows, columns, heads, 8, 8, c), a view."""
        batch, rows, columns = self.counts
        shape = (batch, rows, WINDOW, columns, WINDOW, self.heads, self.width)
        return features.view(shape).permute(0, 1, 3, 5, 2, 4, 6)

    def __iter__(self) -> Iterator[tuple[slice, slice, slice]]:
        for batch in _slices(self.counts[0], self.sizes[0]):
            for rows in _slices(self.counts[1], self.sizes[1]):
                for columns in _slices(self.counts[2], self.sizes[2]):
                    yield batch, rows, columns

    def count(self, step: tuple[slice, slice, slice]) -> int:
        """Windows × heads in a step."""
        batch, rows, columns = (part.stop - part.start for part in step)
        count: int = self.heads * batch * rows * columns
        return count

    def buffer(self, name: str, *shape: int, fill: Callable[[Tensor], None] | None = None) -> Tensor:
        """A buffer for the largest step; its content is that of the step before."""
        count = self.heads * self.sizes[0] * self.sizes[1] * self.sizes[2]
        return buffer(f"windows {name} {self.width}", (count, *shape), self.like, fill)


class _Logits:
    """Fills queries, keys and logits of one step, reusing its buffers."""

    def __init__(self, steps: _Steps, tables: Tensor) -> None:
        self.steps = steps
        self.tables = tables
        width = steps.width
        self.queries = steps.buffer("queries", QUERIES, width + POSITIONS)
        self.keys = steps.buffer("keys", KEYS, width + POSITIONS, fill=_one_hot_positions)
        self.values = steps.buffer("values", KEYS, width)
        self.logits = steps.buffer("logits", QUERIES, KEYS)
        self.positions = steps.buffer("positions", QUERIES, 2 * OFFSETS)

    def load(self, step: tuple[slice, slice, slice]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Attention (B, 64, 144), extended queries (B, 64, c+24), extended keys (B, 144, c+24), values (B, 144, c)."""
        steps = self.steps
        count, width = steps.count(step), steps.width
        queries, keys, values = self.queries[:count], self.keys[:count], self.values[:count]
        source = steps.queries[step]
        plain = queries[..., :width]
        torch.mul(source, steps.scale, out=plain.view(*source.shape))
        positions = self.positions[:count]
        torch.matmul(plain, self.tables.t(), out=positions)
        for ours, theirs in zip(_position_columns(queries, width), _skewed(positions), strict=True):
            ours.copy_(theirs)
        keys[..., :width].view(steps.keys[step].shape).copy_(steps.keys[step])
        values.view(steps.values[step].shape).copy_(steps.values[step])
        logits = self.logits[:count]
        torch.bmm(queries, keys.transpose(1, 2), out=logits)
        return torch.softmax(logits, dim=-1, out=logits), queries, keys, values


def _one_hot_positions(keys: Tensor) -> None:
    """Write the row and the column of every key, as one-hot vectors, into the last 24 entries of (B, 144, e + 24)."""
    position = torch.arange(KEYS, device=keys.device)
    keys[..., -POSITIONS:-REACH] = functional.one_hot(position // REACH, REACH)
    keys[..., -REACH:] = functional.one_hot(position % REACH, REACH)


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _position_columns(queries: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The row and the column logits within extended queries, each (B, 8, 8, 12)."""
    square = queries.view(len(queries), WINDOW, WINDOW, -1)
    return square[..., width : width + REACH], square[..., width + REACH :]


def _skewed(positions: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 64, 2·19) products with every offset → those with the 12 key rows, and the 12 key columns, (B, 8, 8, 12).

    A query in row i meets key row j at entry j − i + 7: the same memory read with a shifted stride.
    """
    count, _, entries = positions.shape
    start = positions.storage_offset() + WINDOW - 1
    by_row = positions.as_strided(
        (count, WINDOW, WINDOW, REACH), (QUERIES * entries, WINDOW * entries - 1, entries, 1), start
    )
    by_column = positions.as_strided(
        (count, WINDOW, WINDOW, REACH), (QUERIES * entries, WINDOW * entries, entries - 1, 1), start + OFFSETS
    )
    return by_row, by_column


def _surroundings(qkv: Tensor, rows: slice) -> Tensor:
    """Keys and values of ``rows`` and MARGIN pixels around them, zero outside of the image, in a buffer."""
    inner = qkv.shape[-1] // 3
    above, below = MARGIN - rows.start, MARGIN - (qkv.shape[1] - rows.stop)
    height, width = qkv.shape[1] + above + below, qkv.shape[2] + 2 * MARGIN
    padded = buffer("keys and values", (len(qkv), height, width, 2 * inner), qkv)
    padded[:, above : height - below, MARGIN : width - MARGIN] = qkv[..., inner:]
    for border in (
        padded[:, :above],
        padded[:, height - below :],
        padded[:, :, :MARGIN],
        padded[:, :, width - MARGIN :],
    ):
        border.zero_()
    return padded


def _forward(qkv: Tensor, tables: Tensor, heads: int, rows: slice) -> Tensor:
    queries = qkv[:, rows, :, : qkv.shape[-1] // 3]
    result = torch.empty_like(queries, memory_format=torch.contiguous_format)
    steps = _Steps(queries, _surroundings(qkv, rows), heads)
    windows = steps.by_window(result)
    logits = _Logits(steps, tables)
    answers = steps.buffer("answers", QUERIES, steps.width)
    for step in steps:
        attention, _, _, values = logits.load(step)
        answer = answers[: len(attention)]
        torch.bmm(attention, values, out=answer)
        windows[step] = answer.view(windows[step].shape)
    return result


class _WindowAttention(torch.autograd.Function):
    """``_forward`` with a backward pass that recomputes the attention step by step."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, tables: Tensor, heads: int) -> Tensor:
        ctx.save_for_backward(qkv, tables)
        ctx.heads = heads
        return _forward(qkv, tables, heads, slice(0, qkv.shape[1]))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        qkv, tables = ctx.saved_tensors
        inner = qkv.shape[-1] // 3
        keys_values = _surroundings(qkv, slice(0, qkv.shape[1]))
        steps = _Steps(qkv[..., :inner], keys_values, ctx.heads)
        width = steps.width
        logits = _Logits(steps, tables)
        upstream = steps.by_window(gradient.contiguous())
        result = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        query_windows = steps.by_window(result[..., :inner])
        source_gradient = buffer("keys and values gradient", tuple(keys_values.shape), qkv).zero_()
        targets = source_gradient.view(*source_gradient.shape[:3], 2, ctx.heads, width)
        table_gradient = torch.zeros_like(tables)
        slopes = steps.buffer("slopes", QUERIES, KEYS)
        arriving = steps.buffer("arriving", QUERIES, width)
        wides = steps.buffer("wide gradient", QUERIES, width + POSITIONS)
        key_slopes, value_slopes = (steps.buffer(f"{name} gradient", KEYS, width) for name in ("key", "value"))
        for step in steps:
            attention, wide_queries, wide_keys, values = logits.load(step)
            count = len(attention)
            above, slope = arriving[:count], slopes[:count]
            above.view(upstream[step].shape).copy_(upstream[step])
            torch.bmm(above, values.transpose(1, 2), out=slope)
            torch.ops.aten._softmax_backward_data(slope, attention, -1, slope.dtype, grad_input=slope)
            wide = torch.bmm(slope, wide_keys, out=wides[:count])
            offsets = logits.positions[:count].zero_()  # the products themselves are not needed any more
            for ours, theirs in zip(_skewed(offsets), _position_columns(wide, width), strict=True):
                ours.copy_(theirs)  # for one query no two entries share memory, so a copy is the adjoint of the view
            plain = wide_queries[..., :width].flatten(0, 1)
            table_gradient += offsets.flatten(0, 1).t() @ plain
            total = torch.matmul(offsets, tables).add_(wide[..., :width]).mul_(steps.scale)
            query_windows[step] = total.view(query_windows[step].shape)
            key_slope = torch.bmm(slope.transpose(1, 2), wide_queries[..., :width], out=key_slopes[:count])
            value_slope = torch.bmm(attention.transpose(1, 2), above, out=value_slopes[:count])
            _scatter(targets, step, key_slope, value_slope, steps.keys[step].shape)
        result[..., inner:] = source_gradient[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        return result, table_gradient, None


def _scatter(
    targets: Tensor, step: tuple[slice, slice, slice], key_slope: Tensor, value_slope: Tensor, shape: torch.Size
) -> None:
    """Add the gradients of overlapping windows to the map. Every second window does not overlap: four additions."""
    batch, rows, columns = step
    windows = targets[batch].unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW)[:, rows, columns]
    windows = windows.permute(3, 0, 1, 2, 4, 6, 7, 5)
    for target, slope in zip(windows.unbind(0), (key_slope, value_slope), strict=True):
        by_window = slope.view(shape)
        for row in range(2):
            for column in range(2):
                target[:, row::2, column::2].add_(by_window[:, row::2, column::2])
