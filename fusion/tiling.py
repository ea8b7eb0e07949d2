"""Running a network on images of any size: whole, or in overlapping tiles that blend without seams."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.errors import InputError

SMALLEST = 8  # pixels a side
OVERLAP = 64  # pixels two neighbouring tiles share; the halo inside which tiled and whole may differ
SMALLEST_TILE = 2 * OVERLAP + 64


def run(
    network: nn.Module, visible: Tensor, infrared: Tensor, text: Tensor | None = None, tile: int | None = None
) -> Tensor:
    """Fuse (N, 3, H, W) and (N, 1, H, W), 0..1, to (N, 3, H, W): whole, or in tiles of ``tile`` pixels a side.

    Raises InputError for sides under 8 pixels, sizes that differ, and tiles too small to overlap.
    """
    h, w = visible.shape[-2:]
    if infrared.shape[-2:] != (h, w):
        raise InputError(f"the images differ in size: {w} x {h} and {infrared.shape[-1]} x {infrared.shape[-2]} pixels")
    if min(h, w) < SMALLEST:
        raise InputError(f"{w} x {h} pixels: the networks need at least {SMALLEST} a side")
    with torch.inference_mode():
        if tile is None or (h <= tile and w <= tile):
            return _call(network, visible, infrared, text)
        return _run_tiled(network, visible, infrared, text, tile)


def tile_spans(length: int, tile: int, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Spans of equal length that cover ``length``, neighbours sharing at least ``overlap``."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(index * (length - tile) / (count - 1)) for index in range(count)]
    return [(start, start + tile) for start in starts]


def blend_weights(spans: list[tuple[int, int]], length: int) -> Tensor:
    """(spans, length): linear ramps across each overlap, zero outside a span, summing to 1 at every pixel."""
    weights = torch.zeros(len(spans), length)
    for index, (start, stop) in enumerate(spans):
        weights[index, start:stop] = 1.0
        if index:
            shared = spans[index - 1][1] - start
            ramp = (torch.arange(shared) + 0.5) / shared
            weights[index, start : start + shared] = ramp
            weights[index - 1, start : start + shared] = 1 - ramp
    return weights


def _run_tiled(network: nn.Module, visible: Tensor, infrared: Tensor, text: Tensor | None, tile: int) -> Tensor:
    if tile < SMALLEST_TILE:
        raise InputError(f"--tile {tile}: tiles share {OVERLAP} pixels on each side; give at least {SMALLEST_TILE}")
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


def _call(network: nn.Module, visible: Tensor, infrared: Tensor, text: Tensor | None) -> Tensor:
    fused: Tensor = network(visible, infrared, text)
    return fused
