"""Attention over overlapping windows without ever holding all windows, forward and backward.

A straightforward version unfolds keys and values (2.25 times their size) and keeps the logits of all windows (144 per
pixel and head, several copies of them in training). Here a few windows at a time pass through small buffers that stay
in the cache. Training keeps the attention itself, once, of layers where it fits in KEPT_BYTES; of larger ones the
backward pass computes it again.

The relative-position logits need no pass of their own. With one-hot rows and columns put before the keys and the
query's 12 row logits and 12 column logits before the query,

    [q·R_h, q·R_w, q] · [onehot(row), onehot(column), k] = q·R_h[row offset] + q·R_w[column offset] + q·k,

so one matrix product gives the complete logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fusion.windows import KEYS, MARGIN, OFFSETS, POSITIONS, QUERIES, REACH, WINDOW, attend_at_once, inside
from fusion.workspace import buffer

MATRICES = 64  # windows × heads per step: about 2.4 MB of logits
KEPT_BYTES = 160 << 20  # of one layer's attention, for the backward pass: four crops of 128 x 128 with four heads


def attend_windows(qkv: Tensor, relative_height: Tensor, relative_width: Tensor, heads: int) -> Tensor:
    """Attention of H × W pixels to everything around them.

    ``qkv`` (N, H + 4, W + 4, 3·heads·e) holds q of every head, then k and v head by head, of these pixels and of MARGIN
    more on every side (zeros outside the image, where q does not count). The tables (23, e) hold a vector for every
    offset of the key's pixel from the query's, −11 to 11. Returns (N, H, W, heads·e).
    """
    used = slice(MARGIN, MARGIN + OFFSETS)  # offsets −9 to 9 of −11 to 11
    tables = torch.cat([relative_height[used], relative_width[used]]).to(qkv.dtype)
    if qkv.device.type != "cpu" or torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return attend_at_once(qkv, tables, heads)
    if torch.is_grad_enabled() and (qkv.requires_grad or tables.requires_grad):
        attended: Tensor = _WindowAttention.apply(qkv, tables, heads)  # type: ignore[no-untyped-call]
        return attended
    return _forward(qkv, tables, heads)


class _Steps:
    """Views of the maps by window, the order in which they are worked through, and the buffers for one step."""

    def __init__(self, qkv: Tensor, heads: int) -> None:
        batch, height, width, channels = qkv.shape
        self.heads = heads
        self.width = channels // 3 // heads
        self.scale = self.width**-0.5
        self.like = qkv
        self.counts = (batch, height // WINDOW, width // WINDOW)
        self.queries, self.keys_values = self.by_window(inside(qkv)), self.overlapping(qkv)
        columns = min(self.counts[2], max(1, MATRICES // heads))
        rows = min(self.counts[1], max(1, MATRICES // (heads * columns)))
        batches = min(batch, max(1, MATRICES // (heads * columns * rows)))
        self.sizes = (batches, rows, columns)

    def overlapping(self, qkv: Tensor) -> Tensor:
        """The k and v of (N, rows·8 + 4, columns·8 + 4, 3·heads·c) as (N, rows, columns, heads, 12, 12, 2c), a view."""
        split = qkv[..., self.heads * self.width :].view(*qkv.shape[:3], self.heads, 2 * self.width)
        return split.unfold(1, REACH, WINDOW).unfold(2, REACH, WINDOW).permute(0, 1, 2, 3, 5, 6, 4)

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


class _Windows:
    """The queries, keys and values of one step, extended by their positions, in buffers that the next step uses again."""

    def __init__(self, steps: _Steps, tables: Tensor) -> None:
        self.steps = steps
        self.tables = tables
        width = steps.width
        self._queries = steps.buffer("queries", QUERIES, POSITIONS + width)
        self._keys_values = steps.buffer("keys", KEYS, POSITIONS + 2 * width, fill=_one_hot_positions)
        self._offsets = steps.buffer("offsets", QUERIES, 2 * OFFSETS)

    def load(self, step: tuple[slice, slice, slice]) -> None:
        """Go to ``step``: its plain queries, scaled, its keys and its values."""
        steps = self.steps
        count, width = steps.count(step), steps.width
        self.queries, both, self.offsets = self._queries[:count], self._keys_values[:count], self._offsets[:count]
        self.plain = self.queries[..., POSITIONS:]  # (B, 64, c)
        source = steps.queries[step]
        torch.mul(source, steps.scale, out=self.plain.view(*source.shape))
        source = steps.keys_values[step]
        both[..., POSITIONS:].view(source.shape).copy_(source)
        self.keys, self.values = both[..., : POSITIONS + width], both[..., POSITIONS + width :]  # (B, 144, 24 + c or c)

    def attention(self, out: Tensor) -> Tensor:
        """(B, 64, 144) in ``out``: the softmax of the complete logits."""
        torch.matmul(self.plain, self.tables.t(), out=self.offsets)
        for ours, theirs in zip(_position_columns(self.queries), _skewed(self.offsets), strict=True):
            ours.copy_(theirs)
        torch.bmm(self.queries, self.keys.transpose(1, 2), out=out)
        return torch.softmax(out, dim=-1, out=out)


def _one_hot_positions(keys: Tensor) -> None:
    """Write the row and the column of every key, as one-hot vectors, into the first 24 entries of (B, 144, 24 + 2c)."""
    position = torch.arange(KEYS, device=keys.device)
    keys[..., :REACH] = functional.one_hot(position // REACH, REACH)
    keys[..., REACH:POSITIONS] = functional.one_hot(position % REACH, REACH)


def _slices(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def _position_columns(queries: Tensor) -> tuple[Tensor, Tensor]:
    """The row and the column logits within extended queries, each (B, 8, 8, 12)."""
    square = queries.view(len(queries), WINDOW, WINDOW, -1)
    return square[..., :REACH], square[..., REACH:POSITIONS]


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


def _forward(qkv: Tensor, tables: Tensor, heads: int, kept: list[Tensor] | None = None) -> Tensor:
    """The attended pixels. With ``kept`` every step's attention is appended to it."""
    result = torch.empty_like(inside(qkv), memory_format=torch.contiguous_format)
    steps = _Steps(qkv, heads)
    by_window = steps.by_window(result)
    windows = _Windows(steps, tables)
    logits = steps.buffer("logits", QUERIES, KEYS)
    answers = steps.buffer("answers", QUERIES, steps.width)
    for step in steps:
        windows.load(step)
        count = steps.count(step)
        if kept is None:
            attention = windows.attention(logits[:count])
        else:
            attention = windows.attention(qkv.new_empty(count, QUERIES, KEYS))
            kept.append(attention)
        answer = torch.bmm(attention, windows.values, out=answers[:count])
        by_window[step] = answer.view(by_window[step].shape)
    return result


class _WindowAttention(torch.autograd.Function):
    """``_forward`` with a backward pass that keeps or recomputes the attention."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, tables: Tensor, heads: int) -> Tensor:
        kept: list[Tensor] = []
        size = inside(qkv)[..., 0].numel() * heads * KEYS * qkv.element_size()
        attended = _forward(qkv, tables, heads, kept if size <= KEPT_BYTES else None)
        ctx.save_for_backward(qkv, tables, *kept)
        ctx.heads = heads
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        qkv, tables, *kept = ctx.saved_tensors
        steps = _Steps(qkv, ctx.heads)
        width = steps.width
        windows = _Windows(steps, tables)
        upstream = steps.by_window(gradient.contiguous())
        result = torch.zeros_like(qkv, memory_format=torch.contiguous_format)
        query_windows = steps.by_window(inside(result))
        targets = torch.split(steps.overlapping(result), width, dim=-1)
        table_gradient = torch.zeros_like(tables)
        logits, slopes = (steps.buffer(name, QUERIES, KEYS) for name in ("logits", "slopes"))
        arriving = steps.buffer("arriving", QUERIES, width)
        wides = steps.buffer("wide gradient", QUERIES, POSITIONS + width)
        both = [steps.buffer(f"{name} gradient", KEYS, width) for name in ("key", "value")]
        for number, step in enumerate(steps):
            windows.load(step)
            count = steps.count(step)
            attention = kept[number] if kept else windows.attention(logits[:count])
            above, slope = arriving[:count], slopes[:count]
            above.view(upstream[step].shape).copy_(upstream[step])
            torch.bmm(above, windows.values.transpose(1, 2), out=slope)
            torch.ops.aten._softmax_backward_data(slope, attention, -1, slope.dtype, grad_input=slope)
            wide = torch.bmm(slope, windows.keys, out=wides[:count])
            offsets = windows.offsets.zero_()  # the products themselves are not needed any more
            for ours, theirs in zip(_skewed(offsets), _position_columns(wide), strict=True):
                ours.copy_(theirs)  # for one query no two entries share memory, so a copy is the adjoint of the view
            table_gradient.addmm_(offsets.flatten(0, 1).t(), windows.plain.flatten(0, 1))
            total = torch.matmul(offsets, tables).add_(wide[..., POSITIONS:]).mul_(steps.scale)
            query_windows[step] = total.view(query_windows[step].shape)
            torch.bmm(slope.transpose(1, 2), windows.plain, out=both[0][:count])
            torch.bmm(attention.transpose(1, 2), above, out=both[1][:count])
            for target, part in zip(targets, both, strict=True):
                _scatter(target[step], part[:count])
        return result, table_gradient, None


def _scatter(windows: Tensor, gradient: Tensor) -> None:
    """Add to a map, seen as overlapping windows. Every second window does not overlap: four additions."""
    by_window = gradient.view(windows.shape)
    for row in range(2):
        for column in range(2):
            windows[:, row::2, column::2].add_(by_window[:, row::2, column::2])
