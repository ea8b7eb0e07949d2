"""Running a network on images of any size: whole, or in overlapping tiles that blend without seams.

A tile that is fused alone differs from the same place of the whole image for two reasons. Near its border it lacks
what lies beyond: tiles overlap, and the outer quarter of an overlap does not count. And channel attention and global
context read statistics over all pixels, in a tile those of the tile: so a first pass over the whole image, or over
evenly spaced crops of one of more than SAMPLE_PIXELS, gives the statistics that all tiles then share. Tiles start on
the grid of the network's windows. What remains is what a network sees further than the halo; for an image over
SAMPLE_PIXELS also the difference between its statistics and those of the crops, which is the same everywhere and
shows no seam.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from fusion.shared_statistics import SharedStatistics, reads_whole_images, sharing
from pipeline.errors import InputError
from pipeline.pairs import SMALLEST

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]

OVERLAP = 64  # pixels two neighbouring tiles share at least; twice as many from WIDE_TILE on
WIDE_TILE = 384
GRID = 64  # tiles start at multiples: the networks' windows then lie as in the whole image
SMALLEST_TILE = 2 * OVERLAP + 64
SAMPLE_PIXELS = 1 << 20  # statistics: the whole image up to this size, crops of this many pixels together above
SAMPLE_SIDE = 256


def check_tile(tile: Any) -> None:
    """Raises InputError for tiles too small to overlap, and for what is no number of pixels."""
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, Integral)):
        raise InputError(f"tile is {tile!r}, expected a whole number of pixels")
    if tile is not None and tile < SMALLEST_TILE:
        raise InputError(f"--tile {tile}: tiles share {OVERLAP} pixels on each side; give at least {SMALLEST_TILE}")


def run(
    network: Network, visible: Tensor, infrared: Tensor, text: Tensor | None = None, tile: int | None = None
) -> Tensor:
    """Fuse (N, 3, H, W) and (N, 1, H, W), 0..1, to (N, 3, H, W): whole, or in tiles of ``tile`` pixels a side.

    Raises InputError for sides under 8 pixels, sizes that differ, and tiles too small to overlap.
    """
    h, w = visible.shape[-2:]
    if infrared.shape[-2:] != (h, w):
        raise InputError(f"the images differ in size: {w} x {h} and {infrared.shape[-1]} x {infrared.shape[-2]} pixels")
    if min(h, w) < SMALLEST:
        raise InputError(f"{w} x {h} pixels: the networks need at least {SMALLEST} a side")
    # What an engine writes into leaves as it is, and tensors of the inference mode could not be changed by their owner.
    with torch.inference_mode() if isinstance(network, nn.Module) else torch.no_grad():
        if tile is None or (h <= tile and w <= tile):
            return _call(network, visible, infrared, text)
        check_tile(tile)
        fused = torch.empty_like(visible)
        for index in range(len(visible)):
            one = slice(index, index + 1)
            condition = None if text is None else text[one]
            with sharing(_statistics(network, visible[one], infrared[one], condition)):
                fused[one] = _run_tiled(network, visible[one], infrared[one], condition, tile)
        return fused


def _statistics(network: Network, visible: Tensor, infrared: Tensor, text: Tensor | None) -> SharedStatistics:
    """What the layers of ``network`` that see all of an image read in one, (1, 3, H, W) and (1, 1, H, W)."""
    statistics = SharedStatistics()
    if not reads_whole_images(network):
        return statistics
    crops = sample_crops(*visible.shape[-2:])
    first, second = (torch.cat([image[..., rows, columns] for rows, columns in crops]) for image in (visible, infrared))
    with sharing(statistics):
        _call(network, first, second, None if text is None else text.expand(len(crops), -1))
    return statistics


def sample_crops(height: int, width: int) -> list[tuple[slice, slice]]:
    """The whole image where it has at most SAMPLE_PIXELS, else evenly spaced crops of one size, on the grid."""
    if height * width <= SAMPLE_PIXELS:
        return [(slice(0, height), slice(0, width))]
    sides = min(height, SAMPLE_SIDE), min(width, SAMPLE_SIDE)
    count = SAMPLE_PIXELS // (sides[0] * sides[1])
    rows = min(max(1, round((count * height / width) ** 0.5)), height // sides[0])
    columns = min(count // rows, width // sides[1])
    spans = []
    for length, side, number in ((height, sides[0], rows), (width, sides[1], columns)):
        free = length - side
        starts = [round(free * (index + 0.5) / number) // GRID * GRID for index in range(number)]
        spans.append([slice(start, start + side) for start in starts])
    return [(row, column) for row in spans[0] for column in spans[1]]


def tile_spans(length: int, tile: int, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Spans of at most ``tile`` that cover ``length``, on the grid, neighbours sharing at least ``overlap``."""
    step = max(GRID, (tile - max(overlap, halo(tile))) // GRID * GRID)
    starts = [0]
    while starts[-1] + tile < length:
        starts.append(starts[-1] + step)
    return [(start, min(start + tile, length)) for start in starts]


def halo(tile: int) -> int:
    """Pixels that neighbouring tiles of this side share: within them tiled and whole may differ by more than 1/255."""
    return 2 * OVERLAP if tile >= WIDE_TILE else OVERLAP


def blend_weights(spans: list[tuple[int, int]], length: int) -> Tensor:
    """(spans, length): linear ramps across the middle half of each overlap, zero outside, summing to 1 everywhere."""
    weights = torch.zeros(len(spans), length)
    for index, (start, stop) in enumerate(spans):
        weights[index, start:stop] = 1.0
        if index:
            shared = spans[index - 1][1] - start
            ramp = ((2 * torch.arange(shared) + 1) / shared - 0.5).clamp(0, 1)
            weights[index, start : start + shared] = ramp
            weights[index - 1, start : start + shared] = 1 - ramp
    return weights


def _run_tiled(network: Network, visible: Tensor, infrared: Tensor, text: Tensor | None, tile: int) -> Tensor:
    h, w = visible.shape[-2:]
    rows, columns = tile_spans(h, tile), tile_spans(w, tile)
    row_weights, column_weights = blend_weights(rows, h), blend_weights(columns, w)
    # What is blended is the change against the visible image: a network that changes nothing changes no bit.
    change = torch.zeros_like(visible)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            part = (..., slice(top, bottom), slice(left, right))
            weight = row_weights[i, top:bottom, None] * column_weights[j, None, left:right]
            difference = _call(network, visible[part], infrared[part], text) - visible[part]
            change[part] += difference * weight.to(visible)
    return visible + change


def _call(network: Network, visible: Tensor, infrared: Tensor, text: Tensor | None) -> Tensor:
    fused: Tensor = network(visible, infrared, text)
    return fused
