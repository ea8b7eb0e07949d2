"""Two ways to take a grey image apart by scale and to put it together exactly: Laplacian pyramid and 5/3 wavelet."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_SIDE = 8  # a coarsest image below this holds no brightness worth averaging
MOST_LEVELS = 5


def depth(size: tuple[int, int], most: int = MOST_LEVELS) -> int:
    """How often an image of this height and width can be halved before a side falls under 8 (0 for tiny ones)."""
    levels, side = 0, min(size)
    while levels < most and (side + 1) // 2 >= SMALLEST_SIDE:
        side = (side + 1) // 2
        levels += 1
    return levels


def laplacian_pyramid(image: Tensor) -> tuple[list[Tensor], Tensor]:
    """(N, 1, H, W) of any size as detail images, finest first, and the coarsest image."""
    details = []
    for _ in range(depth((image.shape[-2], image.shape[-1]))):
        smaller = _blur(image)[..., ::2, ::2]
        details.append(image - _enlarge(smaller, image))
        image = smaller
    return details, image


def laplacian_rebuild(details: list[Tensor], base: Tensor) -> Tensor:
    """The image that ``laplacian_pyramid`` took apart."""
    for detail in reversed(details):
        base = _enlarge(base, detail) + detail
    return base


def _binomial(image: Tensor) -> Tensor:
    return image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def _blur(image: Tensor) -> Tensor:
    kernel = _binomial(image)
    padded = functional.pad(image, (2, 2, 2, 2), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 5, 1)), kernel.view(1, 1, 1, 5))


def _enlarge(small: Tensor, like: Tensor) -> Tensor:
    """Twice the size by the same binomial kernel, cut to ``like``; a constant image stays constant at the borders."""
    height, width = like.shape[-2:]
    spread = like.new_zeros(*like.shape[:2], height, width)
    spread[..., ::2, ::2] = small
    there = like.new_zeros(1, 1, height, width)
    there[..., ::2, ::2] = 1
    return _blur(spread) / _blur(there)


def wavelet_split(image: Tensor, levels: int = 4) -> tuple[list[Tensor], Tensor]:
    """(N, 1, H, W) of any size as bands (N, 3, h, w), finest first, and the coarsest image, by the 5/3 wavelet.

    Sides are padded by repetition to a multiple of 2^levels; ``wavelet_rebuild`` cuts the padding off.
    """
    levels = depth((image.shape[-2], image.shape[-1]), levels)
    step = 2**levels
    image = functional.pad(image, (0, -image.shape[-1] % step, 0, -image.shape[-2] % step), mode="replicate")
    bands = []
    for _ in range(levels):
        low, high = _analyse(image)
        smooth, down = _analyse(low.mT)
        across, diagonal = _analyse(high.mT)
        bands.append(torch.cat([across.mT, down.mT, diagonal.mT], dim=1))
        image = smooth.mT
    return bands, image


def wavelet_rebuild(bands: list[Tensor], base: Tensor, *, size: tuple[int, int]) -> Tensor:
    """The image that ``wavelet_split`` took apart, cut to ``size`` (height, width)."""
    for band in reversed(bands):
        across, down, diagonal = band[:, 0:1], band[:, 1:2], band[:, 2:3]
        low, high = _synthesise(base.mT, down.mT), _synthesise(across.mT, diagonal.mT)
        base = _synthesise(low.mT, high.mT)
    return base[..., : size[0], : size[1]]


def _next(values: Tensor) -> Tensor:
    """``values[n + 1]`` along the width; the last repeats itself."""
    return torch.cat([values[..., 1:], values[..., -1:]], dim=-1)


def _previous(values: Tensor) -> Tensor:
    """``values[n - 1]`` along the width; the first repeats itself."""
    return torch.cat([values[..., :1], values[..., :-1]], dim=-1)


def _analyse(image: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth and detail halves along an even width: predict the odd samples, then update the even ones."""
    even, odd = image[..., ::2], image[..., 1::2]
    detail = odd - (even + _next(even)) / 2
    return even + (_previous(detail) + detail) / 4, detail


def _synthesise(smooth: Tensor, detail: Tensor) -> Tensor:
    """What ``_analyse`` split."""
    even = smooth - (_previous(detail) + detail) / 4
    odd = detail + (even + _next(even)) / 2
    return torch.stack([even, odd], dim=-1).flatten(-2)
