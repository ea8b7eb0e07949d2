"""A network as one graph that takes any size: range, padding and cropping inside, ready to be exported."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fusion.edge import EdgeNetwork, Fold, Interleave, convolution_of_both
from fusion.network import FusionNetwork
from pipeline.errors import WeightsError


class FusionGraph(nn.Module):
    """(N, 3, H, W) and (N, 1, H, W) to (N, 3, H, W), all clamped to 0..1; H and W of at least 8.

    The padding is computed from the shapes instead of chosen by branches, which no exporter could follow. ``half`` keeps
    the weights in half precision and computes in single: sums over all pixels of an image overflow half precision.
    Takes the network over: the first layers of an edge network become one, and it returns to full resolution in the form
    that is quickest in ``engine``. Raises WeightsError for a network that needs a text.
    """

    def __init__(self, network: nn.Module, engine: str = "onnx", half: bool = False) -> None:
        super().__init__()
        if not isinstance(network, FusionNetwork | EdgeNetwork):
            raise WeightsError(f"{type(network).__name__} cannot be exported")
        if network.config.text_width:
            raise WeightsError("a teacher needs a text for every image and is not exported; distil a student from it")
        if isinstance(network, EdgeNetwork) and isinstance(network.fold, Fold):
            network.stem, network.fold = convolution_of_both(network.stem), nn.Identity()
            _unfold_for(engine, network)
        self.network = network.eval().requires_grad_(False)
        self.half_weights = half
        if half:
            _halve(self.network)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        visible, infrared = visible.clamp(0, 1), infrared.clamp(0, 1)
        if isinstance(self.network, EdgeNetwork):  # pads inside, without branches
            fused: Tensor = self.network(visible, infrared)
            return fused.clamp(0, 1)
        h, w = visible.shape[-2:]
        rows, columns = reflected(h, w, self.network.multiple)
        padded = [image[:, :, rows][:, :, :, columns] for image in (visible, infrared)]
        whole: Tensor = self.network(*padded)
        return whole[:, :, :h, :w].clamp(0, 1)


def _unfold_for(engine: str, network: EdgeNetwork) -> None:
    """Replace the ways back to full resolution by equal ones: what is quick in one engine is slow in another.

    ONNX Runtime is slow at shuffling; OpenVINO at interleaving, and it carries the channels-last layout of its shuffle on
    through the elementwise rest, where few channels make that four times as slow.
    """
    for module in network.modules():
        if hasattr(module, "unfold") and engine in ("onnx", "openvino"):
            last = module is network
            module.unfold = Interleave() if engine == "onnx" else _Transposition() if last else nn.PixelShuffle(2)


class _Transposition(nn.Module):
    """``pixel_shuffle`` by 2 as one transposition."""

    def forward(self, features: Tensor) -> Tensor:
        count, channels, height, width = features.shape
        cells = features.reshape(count, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return cells.reshape(count, channels // 4, 2 * height, 2 * width)


class _Widened(nn.Module):
    """Stands before a weight kept in half precision."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.float()


def _halve(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            weight.data = weight.data.half()
            parametrize.register_parametrization(module, name, _Widened(), unsafe=True)


def reflected(h: int, w: int, multiple: int) -> tuple[Tensor, Tensor]:
    """Row and column numbers that pad H x W on the right and bottom to a multiple, as ``network.pad_to_multiple`` does.

    By reflection; by replication where either side is too short to reflect.
    """
    tall, wide = (h + multiple - 1) // multiple * multiple, (w + multiple - 1) // multiple * multiple
    height, width = torch.full((1,), h, dtype=torch.int64), torch.full((1,), w, dtype=torch.int64)
    fits = ((tall - height) < height) & ((wide - width) < width)
    return _indices(tall, height, fits), _indices(wide, width, fits)


def _indices(padded: int, length: Tensor, reflect: Tensor) -> Tensor:
    index = torch.arange(padded)
    last = length - 1
    inside = torch.minimum(index, last)
    beyond = torch.maximum(index - last, torch.zeros_like(index))  # a relu of integers is not in every engine
    return torch.where(reflect, inside - beyond, inside)
