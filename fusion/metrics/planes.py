"""A grey image as the metrics see it: its values, and whatever several metrics need of it, computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Kept = TypeVar("Kept")
LEVELS = 256


class Plane:
    """A batch of one-channel images, values 0..255, with a memory of what was derived from it.

    Metrics take a Plane wherever they take a tensor: the two sources of a pair stay the same over many fused images,
    and EN, MI and NMI share histograms. A Plane never changes; drop it to free what it remembers.
    """

    def __init__(self, values: Tensor) -> None:
        """``values``: (N, 1, H, W) or (N, H, W) or (H, W), floating point. Raises ValueError on other shapes."""
        if values.ndim == 2:
            values = values[None, None]
        elif values.ndim == 3:
            values = values[:, None]
        if values.ndim != 4 or values.shape[1] != 1:
            raise ValueError(f"a grey image is (N, 1, H, W), (N, H, W) or (H, W), not {tuple(values.shape)}")
        self.values = values if values.is_floating_point() else values.to(torch.float32)
        self._memory: dict[Hashable, object] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[-2], self.values.shape[-1]

    def recall(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """The value remembered under ``key``, computed the first time."""
        if key not in self._memory:
            self._memory[key] = compute()
        return cast(Kept, self._memory[key])

    def remembered(self, key: Hashable) -> Any:
        """What was remembered under ``key``, or None."""
        return self._memory.get(key)

    @property
    def centre(self) -> Tensor:
        """(N, 1, 1, 1) most frequent grey level of each image; not differentiable."""
        return self.recall("centre", lambda: self.counts.argmax(dim=1).to(self.values.dtype).view(-1, 1, 1, 1))

    @property
    def centred(self) -> Tensor:
        """(N, 1, H, W) values minus ``centre``.

        Local variances do not change by it, and in float32 they keep their digits: a flat background (half of a medical
        image) becomes exactly 0, where the difference of two large squares would leave noise.
        """
        return self.recall("centred", lambda: self.values - self.centre)

    @property
    def codes(self) -> Tensor:
        """(N, H*W) int32 values rounded to 0..255, for histograms; not differentiable."""
        return self.recall("codes", lambda: _rounded(self.values))

    @property
    def counts(self) -> Tensor:
        """(N, 256) int64 pixels on each grey level."""
        return self.recall("counts", lambda: count_codes(self.codes, LEVELS))


Grey = Tensor | Plane


def plane(image: Grey) -> Plane:
    """``image`` itself if it is a Plane, else a Plane over the tensor."""
    return image if isinstance(image, Plane) else Plane(image)


def _rounded(values: Tensor) -> Tensor:
    return values.detach().add(0.5).clamp_(0, 255).flatten(1).to(torch.int32)


def count_codes(codes: Tensor, levels: int) -> Tensor:
    """(N, levels) how often each of 0..levels-1 occurs in each row of ``codes`` (N, P)."""
    batch = codes.shape[0]
    if batch > 1:
        codes = codes + torch.arange(batch, dtype=codes.dtype, device=codes.device).unsqueeze(1) * levels
    return torch.bincount(codes.flatten(), minlength=batch * levels).view(batch, levels)


def undefined(image: Plane) -> Tensor:
    """(N,) NaN: the value of a metric that has none on images of this size."""
    return torch.full((image.values.shape[0],), torch.nan, dtype=image.values.dtype, device=image.values.device)
