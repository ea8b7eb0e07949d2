"""One channel attention for all tiles of an image.

Channel attention reads inner products over *all* pixels of a map. Tiles fused one by one would each see their own, and
would not meet at their borders. Within ``sharing(statistics)`` the first call of every channel attention sums its
products over the batch (tiles of one image) and keeps them; all later calls use those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class SharedStatistics:
    """The products of every channel attention of one network, for one image."""

    products: dict[nn.Module, Tensor] = field(default_factory=dict)

    def of(self, layer: nn.Module, products: Tensor) -> Tensor:
        """The kept products of ``layer``; where there are none yet those given, summed over the batch and kept."""
        if layer not in self.products:
            self.products[layer] = products.sum(dim=0, keepdim=True)
        return self.products[layer].expand_as(products)


_current: ContextVar[SharedStatistics | None] = ContextVar("shared_statistics", default=None)


def shared_statistics() -> SharedStatistics | None:
    """What is shared in this thread; None outside of ``sharing`` and while compiling."""
    return None if torch.compiler.is_compiling() else _current.get()


@contextmanager
def sharing(statistics: SharedStatistics) -> Iterator[None]:
    """Let every channel attention of this thread read and fill ``statistics``."""
    token = _current.set(statistics)
    try:
        yield
    finally:
        _current.reset(token)
