"""Exponential moving average of a network's parameters: what is validated and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averages with decay ``min(decay, (1 + t) / (10 + t))``, so that the first steps do not linger. Decay 0: a copy."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the parameters after optimiser step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        values = dict(network.named_parameters())
        torch._foreach_lerp_(list(self.shadow.values()), [values[name].detach() for name in self.shadow], 1 - decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the averages of a checkpoint."""
        for name, value in self.shadow.items():
            value.copy_(tensors[name])

    @contextmanager
    def in_place_of(self, network: nn.Module) -> Iterator[None]:
        """The network computes with the averages inside the block."""
        own = {name: value.data for name, value in network.named_parameters()}
        for name, value in network.named_parameters():
            value.data = self.shadow[name]
        try:
            yield
        finally:
            for name, value in network.named_parameters():
                value.data = own[name]
