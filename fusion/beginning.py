"""The weights a network of the paper begins its training with.

PyTorch's own would do, slowly: a fresh attention is nearly uniform, so the maps it fuses arrive blurred and mixed, and
noise of the coarse levels covers what is left. Here the network begins as the visible image, and everything between
both images and the output lets through what it gets: fine detail is there from the first steps, and attention grows
where it helps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.blocks import Block, TextCondition, Up
from fusion.feature_fusion import AttentionFusion
from fusion.network import FusionNetwork

NOISE = 0.1  # of the fresh weights that stays beside an identity
TEMPERATURE = 4.0  # of cosines: channels that are equal attend to one another several times more than others do
COARSE = 0.3  # of what a fresh upward step lets through


@torch.no_grad()
def begin(network: nn.Module) -> None:
    """Change fresh weights in place so that training goes quickly; an edge network has its own beginning already."""
    if not isinstance(network, FusionNetwork):
        return
    for module in network.modules():
        if isinstance(module, Block):
            _as_identity(module)
        elif isinstance(module, AttentionFusion):
            _as_mixture(module)
        elif isinstance(module, Up):
            module.conv.weight.mul_(COARSE)
    ignore_text(network)
    nn.init.zeros_(network.output.weight)


@torch.no_grad()
def ignore_text(network: nn.Module) -> None:
    """Let a text change nothing at first, for what a network does without it is already good, and be learned quickly.

    PyTorch's beginning takes inputs of about 1 each. A text's embedding has the length 1, so what its first layer makes of
    it would be √D times too small, and the zeros of the last layer would learn as much more slowly.
    """
    for module in network.modules():
        if isinstance(module, TextCondition):
            first, last = (layer for layer in module.layers if isinstance(layer, nn.Linear))
            first.weight.mul_(first.in_features**0.5)
            for parameter in last.parameters():
                nn.init.zeros_(parameter)


def _as_identity(block: Block) -> None:
    """Four branches that add nothing yet; inside, their depthwise filters let maps through."""
    for attention in (block.channel, block.spatial):
        nn.init.zeros_(attention.out.weight)
    for feed in (block.feed1, block.feed2):
        nn.init.zeros_(feed.down.weight)
        _let_through(feed.depthwise.weight)
    _let_through(block.channel.depthwise.weight)


def _as_mixture(fusion: AttentionFusion) -> None:
    """Both maps, each channel attending to itself, then a random mixture of the channels of every pixel."""
    channel = fusion.channel
    _let_through(channel.depthwise.weight)
    for weight in (channel.to_qkv.weight, channel.depthwise.weight):
        q, k, _ = weight.chunk(3)
        k.copy_(q)
    _identity(channel.to_qkv.weight.chunk(3)[2])
    _identity(channel.out.weight)
    channel.temperature.fill_(TEMPERATURE)
    nn.init.zeros_(fusion.spatial.out.weight)
    weight = fusion.out.weight
    weight.mul_(NOISE)
    weight[:, :, 1, 1] += torch.randn(weight.shape[:2]) * weight.shape[1] ** -0.5


def _identity(weight: Tensor) -> None:
    """A 1×1 convolution that changes nothing."""
    weight.copy_(torch.eye(len(weight))[:, :, None, None])


def _let_through(weight: Tensor) -> None:
    """Depthwise 3×3 filters (C, 1, 3, 3) close to the identity."""
    weight.mul_(NOISE)
    weight[:, :, 1, 1] += 1
