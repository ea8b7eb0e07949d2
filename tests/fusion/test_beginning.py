"""The weights a network of the paper begins with: the visible image out, and details of both images on their way there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fusion.beginning import begin
from fusion.catalog import NETWORKS
from fusion.network import FusionNetwork, NetworkConfig
from pipeline.allocator import keep_freed_memory

SMALL = NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=None)


def fresh(seed: int = 0, config: NetworkConfig = SMALL) -> FusionNetwork:
    torch.manual_seed(seed)
    return FusionNetwork(config)


def begun(seed: int = 0, config: NetworkConfig = SMALL) -> FusionNetwork:
    network = fresh(seed, config)
    begin(network)
    return network


def share_near(network: FusionNetwork, place: int = 30) -> float:
    """How much of the change that one brighter infrared pixel makes in the finest fused map lies within two pixels of it."""
    torch.manual_seed(1)
    visible, infrared = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64)
    brighter = infrared.clone()
    brighter[..., place, place] += 0.5
    with torch.no_grad():
        change = (network._fused_maps(visible, brighter)[0] - network._fused_maps(visible, infrared)[0]).square()
    near = slice(place - 2, place + 3)
    return float(change[..., near, near].sum() / change.sum())


def test_it_begins_as_the_visible_image() -> None:
    visible, infrared = torch.rand(2, 3, 50, 71), torch.rand(2, 1, 50, 71)
    with torch.no_grad():
        assert torch.equal(begun()(visible, infrared), visible)
        assert not torch.equal(fresh()(visible, infrared), visible)


def test_a_detail_of_the_infrared_image_stays_where_it_is() -> None:
    assert share_near(begun()) > 0.9
    assert share_near(fresh()) < 0.8


def test_the_text_changes_nothing_at_first_and_gets_a_gradient() -> None:
    network = begun(config=NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=4))
    nn.init.normal_(network.output.weight, std=0.1)
    visible, infrared, text = torch.rand(1, 3, 64, 64), torch.rand(1, 1, 64, 64), torch.rand(2, 1, 4)
    first, second = (network(visible, infrared, one) for one in text)
    assert torch.equal(first, second)
    first.square().mean().backward()
    gradients = [condition.layers[-1].weight.grad for condition in network.text or ()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_a_text_of_length_one_reaches_the_hidden_layer_at_full_size() -> None:
    """The last layer, which begins with zeros, learns at the pace of what it sees; under PyTorch's own beginning at a twentieth of it."""
    config = NetworkConfig(width=8, expansion=1.0, refinement=1, text_width=512)
    texts = nn.functional.normalize(torch.randn(64, 512, generator=torch.Generator().manual_seed(2)), dim=1)
    sizes = [
        torch.cat([condition.layers[0](texts) for condition in network.text or ()], dim=1).square().mean().sqrt().item()
        for network in (fresh(config=config), begun(config=config))
    ]
    assert sizes[0] < 0.05 and 0.4 < sizes[1] < 0.8


@pytest.mark.parametrize("name", ["edge", "nano"])
def test_an_edge_network_keeps_its_own_beginning(name: str) -> None:
    network = NETWORKS[name].build()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    begin(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.slow  # two trainings
def test_it_learns_the_brighter_source_sooner() -> None:
    keep_freed_memory()
    losses = [learn(network) for network in (fresh(), begun())]
    assert losses[1] < 0.7 * losses[0]


def learn(network: FusionNetwork, steps: int = 30) -> float:
    """The mean distance to the brighter of both images over the last ten steps."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    torch.manual_seed(2)
    losses: list[float] = []
    for _ in range(steps):
        visible, infrared = drawn(), drawn()
        goal = torch.maximum(visible, infrared)
        loss = (network(visible.expand(-1, 3, -1, -1), infrared) - goal).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def drawn() -> Tensor:
    """A grey image with smooth parts and grain, (1, 1, 64, 64)."""
    coarse = nn.functional.interpolate(torch.rand(1, 1, 8, 8), size=64, mode="bilinear")
    return 0.8 * coarse + 0.2 * torch.rand(1, 1, 64, 64)
