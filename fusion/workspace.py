"""Buffers that are used again instead of allocated again.

Fresh memory costs more than arithmetic here: the first touch of a page is a page fault, and a wide intermediate of a
few megabytes is a thousand of them. Each thread keeps its own buffers; one over KEPT_BYTES is not kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

KEPT_BYTES = 32 << 20


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}


_kept = _Kept()


def buffer(name: str, shape: tuple[int, ...], like: Tensor, fill: Callable[[Tensor], None] | None = None) -> Tensor:
    """A tensor of ``shape`` with ``like``'s type and device, whatever it held before, valid until ``name`` is asked for.

    With ``fill``, every row of the first dimension holds what ``fill`` wrote when the buffer was made; the other
    dimensions must then be decided by the name, and the caller must not overwrite them.
    """
    size = 1
    for side in shape:
        size *= side
    if like.device.type != "cpu":
        fresh = like.new_empty(shape)
        if fill is not None:
            fill(fresh)
        return fresh
    key = (name, like.dtype)
    flat = _kept.buffers.get(key)
    if flat is None or flat.numel() < size:
        with torch.inference_mode(False):
            flat = torch.empty(size, dtype=like.dtype)
        if fill is not None:
            fill(flat.view(shape))
        if size * like.element_size() <= KEPT_BYTES:
            _kept.buffers[key] = flat
    return flat[:size].view(shape)
