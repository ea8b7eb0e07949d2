"""Working through a feature map in bands of rows, so that wide intermediate tensors stay small.

A band's intermediates fit the cache and are reused by the allocator from band to band; a whole map's would be fetched
from fresh memory every time. With gradients, while compiling, and off the CPU there is one band, the whole map: the
backward pass keeps the intermediates anyway, and many small kernels would only cost time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BAND_BYTES = 4 << 20  # of the widest intermediate
GRID = 8  # bands start on the grid of the windows


@dataclass(frozen=True, kw_only=True)
class Band:
    """Rows ``start`` to ``stop`` of a map, and the rows ``first`` to ``last`` that are read to compute them."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def read(self) -> slice:
        """The rows to read."""
        return slice(self.first, self.last)

    @property
    def own(self) -> slice:
        """The rows to write."""
        return slice(self.start, self.stop)

    @property
    def inner(self) -> slice:
        """Where the band's own rows lie among those it reads."""
        return slice(self.start - self.first, self.stop - self.first)


def bands(features: Tensor, channels: int, halo: int) -> Iterator[Band]:
    """Bands of (N, H, W, C) ``features`` that read ``halo`` rows more on each side, for ``channels`` wide tensors."""
    batch, height, width, _ = features.shape
    rows = height
    if features.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        fitting = BAND_BYTES // (batch * width * channels * features.element_size())
        rows = max(GRID, fitting // GRID * GRID)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        yield Band(start=start, stop=stop, first=max(0, start - halo), last=min(height, stop + halo))


def by_bands(
    features: Tensor, channels: int, halo: int, function: Callable[[Band], Tensor], out: Tensor | None = None
) -> Tensor:
    """``function`` of every band, (N, rows, W, any), put together; in ``out`` where there are several bands."""
    for band in bands(features, channels, halo):
        part = function(band)
        if part.shape[1] == features.shape[1]:
            return part
        if out is None:
            out = part.new_empty((*features.shape[:3], part.shape[-1]))
        out[:, band.own] = part
    if out is None:
        raise ValueError("a map without rows")
    return out


def to_rows(planes: Tensor) -> Tensor:
    """(N, C, H, W) as contiguous (N, H, W, C): a view where ``planes`` is channels_last, as all maps here are."""
    return planes.permute(0, 2, 3, 1).contiguous()


def to_planes(rows: Tensor) -> Tensor:
    """(N, H, W, C) as (N, C, H, W) in channels_last memory, a view."""
    return rows.permute(0, 3, 1, 2)
