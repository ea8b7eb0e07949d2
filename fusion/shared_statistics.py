"""One channel attention, and one global context, for all tiles of an image.

Both read sums over *all* pixels of a map, channel attention of inner products. Tiles fused one by one would each see
their own, and would not meet at their borders. Within ``sharing(statistics)`` the first call of every such layer adds
its sums over the batch (tiles of one image) and keeps them; all later calls use those.
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
    """The sums of every layer of one network that reads all pixels, for one image."""

    sums: dict[nn.Module, Tensor] = field(default_factory=dict)

    def of(self, layer: nn.Module, sums: Tensor) -> Tensor:
        """The kept sums of ``layer``; where there are none yet those given, summed over the batch and kept."""
        if layer not in self.sums:
            self.sums[layer] = sums.sum(dim=0, keepdim=True)
        return self.sums[layer].expand_as(sums)


_current: ContextVar[SharedStatistics | None] = ContextVar("shared_statistics", default=None)


def shared_statistics() -> SharedStatistics | None:
    """What is shared in this thread; None outside of ``sharing`` and while compiling."""
    return None if torch.compiler.is_compiling() else _current.get()


class WholeImageLayer(nn.Module):
    """A layer that reads sums over all pixels of an image. Tiling looks for it before it cuts an image up."""

    def over_all_tiles(self, sums: Tensor) -> Tensor:
        """``sums`` of what this call sees, or within ``sharing`` those of the whole image."""
        shared = shared_statistics()
        return sums if shared is None else shared.of(self, sums)


def reads_whole_images(network: object) -> bool:
    """Whether what ``network`` makes of a crop depends on the rest of the image."""
    layers = network.modules() if isinstance(network, nn.Module) else ()
    return any(isinstance(layer, WholeImageLayer) for layer in layers)


@contextmanager
def sharing(statistics: SharedStatistics) -> Iterator[None]:
    """Let every layer of this thread that reads all pixels read and fill ``statistics``."""
    token = _current.set(statistics)
    try:
        yield
    finally:
        _current.reset(token)
