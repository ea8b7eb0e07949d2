"""What the networks are trained on: pairs of one size with their texts and loss weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from fusion.augment import Crop, Floats


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pairs of one size. ``target_*`` is what the loss looks at: the clean pair, where the input was degraded.

    visible, target_visible: (N, 3, h, w); infrared, target_infrared: (N, 1, h, w); weights: (N, 5); text: (N, D);
    store: (N,) int64, the place of the pair's store among those that are trained on.
    """

    keys: tuple[str, ...]
    visible: Tensor
    infrared: Tensor
    target_visible: Tensor
    target_infrared: Tensor
    weights: Tensor
    text: Tensor
    store: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors().items()}
        return Batch(keys=self.keys, **moved)

    def only(self, rows: Tensor) -> Batch:
        """Some of the pairs; rows: (N,) bool."""
        keys = tuple(key for key, kept in zip(self.keys, rows.tolist(), strict=True) if kept)
        return Batch(keys=keys, **{name: tensor[rows] for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the keys, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "keys"}


def collate(batches: Sequence[Batch]) -> Batch:
    """Several batches as one."""
    joined = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in batches[0].tensors()}
    return Batch(keys=tuple(key for batch in batches for key in batch.keys), **joined)


def batch_of_one(key: str, seen: Crop, clean: Crop, text: Floats, weights: Floats, store: int) -> Batch:
    """One pair: ``seen`` goes into the network, ``clean`` into the loss; text (D,), weights (5,), the store's place."""
    planes = [torch.from_numpy(image)[None] for image in (seen.visible, seen.infrared, clean.visible, clean.infrared)]
    return Batch(
        keys=(key,),
        visible=planes[0],
        infrared=planes[1],
        target_visible=planes[2],
        target_infrared=planes[3],
        weights=torch.from_numpy(weights)[None],
        text=torch.from_numpy(text)[None],
        store=torch.tensor([store]),
    )
