"""Between the arrays and tensors that people have and the planes that networks take: kinds, shapes, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import InputError


def check_shapes(visible: Tensor, infrared: Tensor) -> None:
    """Raises InputError unless these are (N, 3, H, W) and (N, 1, H, W), of floats; sizes are looked at elsewhere."""
    if visible.ndim != 4 or infrared.ndim != 4 or visible.shape[1] != 3 or infrared.shape[1] != 1:
        raise InputError(
            f"expected (N, 3, H, W) and (N, 1, H, W), got {tuple(visible.shape)} and {tuple(infrared.shape)}"
        )
    if len(visible) != len(infrared):
        raise InputError(
            f"{len(visible)} visible and {len(infrared)} infrared images: give as many of one as of the other"
        )
    for image in (visible, infrared):
        if not image.is_floating_point() or image.dtype.itemsize == 1:  # nothing can be computed with floats of 8 bits
            kind = str(image.dtype).removeprefix("torch.")
            raise InputError(f"tensors of {kind}: use float16, bfloat16, float32 or float64 in 0..1")
        if image.layout != torch.strided or image.is_meta:
            raise InputError("sparse tensors or tensors without data: use dense ones, which hold every pixel")


def check_unit(*images: Tensor) -> None:
    """Raises InputError unless every value lies in 0..1, which one that is not a number does not."""
    for image in images:
        if image.numel():
            _check_range(float(image.detach().min()), float(image.detach().max()))


def condition_of(text: Any, count: int, width: int | None) -> Tensor | None:
    """The embedding (``count`` or 1, ``width``) that a network reads, as float32; zeros for None, None where it reads none.

    Raises InputError: no tensor of floats, another shape, numbers that are not finite.
    """
    if text is not None and not isinstance(text, Tensor):
        raise InputError(f"a text of type {type(text).__name__}; expected its embedding, a tensor")
    if not width:
        return None
    if text is None:
        return torch.zeros(count, width)
    if not text.is_floating_point():
        raise InputError(f"a text of {str(text.dtype).removeprefix('torch.')}; expected its embedding, floats")
    if text.shape not in ((count, width), (1, width)):
        raise InputError(f"a text of shape {tuple(text.shape)}; expected {(count, width)}, or one for all")
    if not text.isfinite().all():
        raise InputError("a text with numbers that are not finite")
    return text.to(torch.float32)


def planes_of(visible: NDArray[Any], infrared: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """(H, W, 3) or (H, W), and (H, W), or either with a leading batch, as (N, 3, H, W) and (N, 1, H, W) in 0..1.

    uint8, uint16 or floats in 0..1. Raises InputError for others.
    """
    channels = infrared.ndim == 3 and min(visible.shape[-1], infrared.shape[-1]) <= 4  # too few to be a width
    grey = visible.ndim == infrared.ndim and not channels
    colour = visible.ndim == infrared.ndim + 1 and visible.shape[-1] == 3
    if infrared.ndim not in (2, 3) or not (grey or colour):
        raise InputError(
            f"arrays of {visible.shape} and {infrared.shape}: expected (H, W, 3) or (H, W), and (H, W), "
            "or both with a leading batch"
        )
    if infrared.ndim == 2:
        visible, infrared = visible[None], infrared[None]
    if grey:
        visible = np.repeat(visible[..., None], 3, axis=-1)
    return _planes(visible), _planes(infrared[..., None])


def like(fused: Tensor, visible: NDArray[Any], single: bool) -> NDArray[Any]:
    """(N, 3, H, W) in 0..1 as an array of the type of ``visible``, grey as it is, without a batch if ``single``."""
    array = _like(fused, visible.dtype)
    array = array[0] if single else array
    return array[..., 0] if array.ndim > visible.ndim else array


def to_unit(array: NDArray[Any]) -> NDArray[np.float32]:
    """uint8, uint16 or floats in 0..1 as float32 in 0..1. Raises InputError for others."""
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"arrays of {array.dtype}: use uint8, uint16 or floats in 0..1")
    if array.size:
        _check_range(float(array.min()), float(array.max()))
    return array.astype(np.float32)


def _check_range(low: float, high: float) -> None:
    if not (low >= 0 and high <= 1):  # nor what is not a number
        raise InputError(f"floats must lie in 0..1, found {low:.4g}..{high:.4g}")


def _planes(array: NDArray[Any]) -> Tensor:
    """(N, H, W, C) uint8, uint16 or floats in 0..1 as (N, C, H, W) float32 in 0..1. Raises InputError for others."""
    if array.dtype == np.uint8:  # in NumPy: PyTorch's threads would go on spinning beside another engine's
        planes = np.stack([array[..., channel] for channel in range(array.shape[3])], axis=1).astype(np.float32)
        planes /= np.float32(255)
        return torch.from_numpy(planes)
    return torch.from_numpy(to_unit(array)).permute(0, 3, 1, 2).contiguous()


def _like(fused: Tensor, kind: np.dtype[Any]) -> NDArray[Any]:
    """(N, C, H, W) in 0..1 as (N, H, W, C) of a dtype."""
    if kind == np.uint8:
        levels = fused.numpy() * np.float32(255)
        np.rint(levels, out=levels)
        eight: NDArray[Any] = np.stack([plane.astype(np.uint8) for plane in np.moveaxis(levels, 1, 0)], axis=-1)
        return eight
    array: NDArray[Any] = fused.permute(0, 2, 3, 1).numpy()
    if kind.kind == "u":
        array = np.rint(array * 65535)
    return array.astype(kind)
