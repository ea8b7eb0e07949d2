"""Fusing with trained weights: ``Fuser`` for Python, and its use on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.alignment import STRICT, Fit, Fitted, fit
from fusion.arrays import check_shapes, check_unit, condition_of, like, planes_of
from fusion.devices import device_named, lacks_memory
from fusion.engines import open_export
from fusion.fused_image import EIGHT_BIT_COLOUR, Output, check_output, save_fused, save_transform
from fusion.hub import HubWeights, Revision
from fusion.thread_share import check_at_once, usual
from fusion.tiling import check_tile, run
from fusion.weights import Weights, load_weights
from pipeline.errors import FusionError, ImageError, InputError, PairingError
from pipeline.images import Picture, picture_of, read_image
from pipeline.pairs import SMALLEST

ROOMY_TILE = 512  # pixels a side that every network has room for


class Fuser(HubWeights):
    """Fuses one pair or a batch. Safe to call from several threads: nothing in it changes after loading.

    ``text`` networks (teachers) get a zero embedding unless one is passed: they are meant for distillation.
    ``save_pretrained(folder)`` and ``push_to_hub("owner/name")`` hand its weights on.
    """

    def __init__(
        self, weights: Weights, device: str | None = None, tile: int | None = None, at_once: int | None = None
    ) -> None:
        self.weights: Weights | None = weights
        self.identity = weights.sha256
        check_tile(tile)
        check_at_once(at_once)
        self.device = device_named(device)
        self.network: Callable[[Tensor, Tensor, Tensor | None], Tensor] = weights.network.to(self.device).eval()
        self.tile = tile
        self.at_once = at_once or (usual() if self.device.type == "cpu" else 1)
        self.text_width: int | None = getattr(getattr(self.network, "config", None), "text_width", None)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin asks the Hub even for names that are shipped
        cls,
        name: str | Path,
        device: str | None = None,
        tile: int | None = None,
        engine: str = "torch",
        at_once: int | None = None,
        **hub: Any,
    ) -> Fuser:
        """Load a run or weights folder, a shipped name, or a Hub id; for another engine, a folder made by ``export``.

        ``engine``: torch, onnx, openvino or torchscript; all but torch run on the CPU. ``at_once``: how many
        pictures or frames folders and videos fuse at the same time, each with a share of the threads; another engine than torch then
        has no more than that share for one. ``hub`` takes what ``huggingface_hub`` does: revision, token, cache_dir,
        local_files_only, force_download. Raises WeightsError; InputError for a device, tile or number at once that cannot be.
        """
        if engine == "torch":
            return cls(load_weights(name, Revision(**hub)), device=device, tile=tile, at_once=at_once)
        check_tile(tile)
        check_at_once(at_once)
        if device not in (None, "cpu"):
            raise InputError(f"the engine {engine} runs on the CPU, not on {device}")
        fuser = cls.__new__(cls)
        fuser.weights = None
        fuser.at_once = at_once or 1
        fuser.network, fuser.identity = open_export(name, engine, tiled=tile is not None, at_once=fuser.at_once)
        fuser.device, fuser.tile, fuser.text_width = torch.device("cpu"), tile, None
        return fuser

    def __call__(self, visible: Any, infrared: Any, text: Tensor | None = None) -> Any:
        """Fuse; what comes out is of the kind of ``visible``.

        Tensors: (3, H, W) and (1, H, W), or (N, 3, H, W) and (N, 1, H, W), floats 0..1 of any precision.
        Arrays: (H, W, 3) or (H, W), and (H, W), or either with a leading batch; uint8, uint16 or floats 0..1.
        PIL images: read as files are (16 bits kept, turned as EXIF says); a grey visible one stays grey, all else comes out as RGB,
        alpha and ICC profile are the visible one's. ``text``: embeddings (N, D), or (1, D) for all pairs, floats; without, or
        for a network that reads none, none is read. Raises InputError for other kinds, shapes and ranges, ImageError for a
        PIL image of floats.
        """
        if isinstance(visible, Image.Image) and isinstance(infrared, Image.Image):
            first, second = picture_of(visible, "the visible image"), picture_of(infrared, "the infrared image")
            if not second.is_grey():
                raise InputError("a colour image where the infrared or MRI image was expected: are the two swapped?")
            thermal = second.pixels if second.pixels.ndim == 2 else second.as_grey()
            pixels = self._arrays(first.pixels, thermal, text)
            fused = Image.fromarray(pixels if first.alpha is None else np.dstack([pixels, first.alpha]))
            fused.info.update({"icc_profile": first.profile} if first.profile else {})
            return fused
        if isinstance(visible, np.ndarray) and isinstance(infrared, np.ndarray):
            return self._arrays(visible, infrared, text)
        if isinstance(visible, Tensor) and isinstance(infrared, Tensor):
            return self._tensors(visible, infrared, text)
        raise InputError(
            f"cannot fuse {type(visible).__name__} with {type(infrared).__name__}: give two tensors, two arrays or two PIL images"
        )

    def fuse(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        """(N, 3, H, W) and (N, 1, H, W) in 0..1 to (N, 3, H, W), clamped to 0..1, of ``visible``'s type and device.

        Computed in float32. Raises InputError for other shapes and types, FusionError where memory does not suffice; the
        range is not looked at.
        """
        check_shapes(visible, infrared)
        text = condition_of(text, len(visible), self.text_width)
        condition = text if text is None else text.to(self.device)
        try:
            first, second = (image.to(self.device, torch.float32) for image in (visible, infrared))
            fused = run(self.network, first, second, condition, self.tile)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            size = f"{visible.shape[-1]} x {visible.shape[-2]} pixels"
            raise FusionError(f"out of memory at {size}; {self._sparing()}") from error
        if self.weights is not None or self.tile is not None:  # an exported file clamps by itself, blended tiles do not
            fused = fused.clamp(0, 1)
        return fused.to(visible.device, visible.dtype)

    def fuse_pictures(self, visible: Picture, infrared: Picture, text: Tensor | None = None) -> NDArray[np.float32]:
        """Two decoded images to (H, W, 3) float32 in 0..1. Raises PairingError when their sizes differ."""
        if visible.size != infrared.size:
            raise PairingError(
                f"the images differ in size: {visible.size[1]} x {visible.size[0]} and {infrared.size[1]} x "
                f"{infrared.size[0]} pixels; fusion needs aligned images of one size"
            )
        first = torch.from_numpy(visible.as_rgb()).permute(2, 0, 1)[None].contiguous()
        second = torch.from_numpy(infrared.as_grey())[None, None].contiguous()
        fused: NDArray[np.float32] = self.fuse(first, second, text)[0].permute(1, 2, 0).numpy()
        return fused

    def _sparing(self) -> str:
        """What would take less memory than now."""
        if self.tile is None:
            return f"fuse in tiles: --tile {ROOMY_TILE}"
        fewer = " and fewer at once: --at-once 1" if self.at_once > 1 else ", or a smaller image"
        return f"give smaller tiles than --tile {self.tile}{fewer}"

    def _arrays(self, visible: NDArray[Any], infrared: NDArray[Any], text: Tensor | None) -> NDArray[Any]:
        first, second = planes_of(visible, infrared)
        return like(self.fuse(first, second, text), visible, single=infrared.ndim == 2)

    def _tensors(self, visible: Tensor, infrared: Tensor, text: Tensor | None) -> Tensor:
        single = visible.ndim == 3
        if single:
            visible, infrared = visible[None], infrared[None]
        check_shapes(visible, infrared)
        check_unit(visible, infrared)
        fused = self.fuse(visible, infrared, text)
        return fused[0] if single else fused


def fuse_file(
    fuser: Fuser, first: Path, second: Path, out: Path, output: Output = EIGHT_BIT_COLOUR, asked: Fit = STRICT
) -> None:
    """Fuse two image files into ``out``, whose suffix chooses the format; a transform that was estimated goes beside it.

    Raises ImageError and PairingError for the inputs, InputError for an output that cannot be written as asked.
    """
    check_output(out, output, (first, second))
    pair = read_checked(first, second, asked)
    save_fused(out, fuse_for(fuser, pair.visible, pair.infrared, output), pair.visible, output)
    save_transform(out, pair.transform)


def read_checked(first: Path, second: Path, asked: Fit = STRICT) -> Fitted:
    """Decode a pair for fusing and fit it. Raises ImageError, or PairingError: modalities swapped, sizes, misaligned."""
    visible, infrared = read_image(first), read_image(second)
    if not infrared.is_grey():
        swapped = " (the first is grey: are the two swapped?)" if visible.is_grey() else ""
        raise PairingError(f"{second}: a colour image where the infrared or MRI image was expected{swapped}")
    for path, picture in ((first, visible), (second, infrared)):
        if min(picture.size) < SMALLEST:
            size = f"{picture.size[1]} x {picture.size[0]}"
            raise ImageError(f"{path}: {size} pixels; fusion needs at least {SMALLEST} a side")
    return fit(visible, infrared, (str(first), str(second)), asked)


def fuse_for(
    fuser: Fuser, visible: Picture, infrared: Picture, output: Output
) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Fuse two pictures as ``save_fused`` takes them: in 8 bits at once where that is all that is asked for."""
    plain = visible.pixels.dtype == infrared.pixels.dtype == np.uint8 and not (output.grey or output.sixteen_bit)
    if not plain or visible.pixels.ndim == 2 or infrared.pixels.ndim == 3 or visible.size != infrared.size:
        return fuser.fuse_pictures(visible, infrared)
    fused: NDArray[np.uint8] = fuser(visible.pixels, infrared.pixels)
    return fused
