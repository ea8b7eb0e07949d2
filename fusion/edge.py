"""The edge students: small convolutional networks of this project that fuse the luma and keep the visible colours.

Two luma planes are folded to half resolution and read at one half of the size, and where the configuration says so at
one quarter and one eighth, by plain 3×3 convolutions with residuals (a small U-Net: strided convolutions down, 1×1 and
pixel-shuffle up). Two maps come out at full resolution: a blend weight ``w`` and a residual ``r``, and

    fused luma = Y + (1 − w)·(I − Y) + r,      w = σ(SHARPNESS·a + PRIOR·(Y − I)),      r = REACH·b

so the untrained network is a soft maximum of both sources, and ``w = 1, r = 0`` is the identity. All channels of the
visible image then move by the same amount, fused luma − luma, which leaves its chroma (Cb, Cr) alone.

With a text width the same network is a small teacher: a text embedding modulates the features of every resolution, as
in the paper's teacher (Eq. 9). With a context width it modulates them in the same way by what it sees of the whole
image, and reads no text: trained so that the text can be told from that, it is a student which sees for itself what the
text would have said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.blocks import TextCondition
from fusion.global_context import GlobalContext
from pipeline.errors import WeightsError
from pipeline.images import LUMA

SHARPNESS = 4.0
PRIOR = 6.0
REACH = 0.25


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """Widths (channels) and depths (3×3 convolutions beside the way down and up) per resolution.

    A width of 0 leaves out that resolution and all coarser ones. ``text_width`` None is a network without text,
    ``context_width`` 0 one without global context; at most one of the two. Defaults are the network ``edge``.
    """

    half_width: int = 16
    half_depth: int = 4
    quarter_width: int = 32
    quarter_depth: int = 2
    eighth_width: int = 0
    eighth_depth: int = 0
    text_width: int | None = None
    context_width: int = 0

    @property
    def multiple(self) -> int:
        """Height and width are padded to a multiple of this, in pixels."""
        return 2 if not self.quarter_width else 4 if not self.eighth_width else 8


EDGE = EdgeConfig()
NANO = EdgeConfig(half_width=8, half_depth=0, quarter_width=16, quarter_depth=2)
# A text-guided teacher of the same design that two CPU cores can train.
EDGE_TEACHER = EdgeConfig(
    half_width=24, half_depth=2, quarter_width=48, quarter_depth=4, eighth_width=96, eighth_depth=4, text_width=512
)
# Two thirds as wide and without text: what it makes of the whole image is trained to tell what the text would say.
EDGE_PRIOR = replace(EDGE_TEACHER, half_width=16, quarter_width=32, eighth_width=64, text_width=None, context_width=32)


class EdgeNetwork(nn.Module):
    """Fuse (N, 3, H, W) visible and (N, 1, H, W) infrared, both 0..1, to (N, 3, H, W); any H, W ≥ 1.

    In medical pairs CT, PET or SPECT stands in the visible place and MRI in the infrared place. The output is not
    clamped. ``text`` (N, D) is read where the configuration has a text width, and ignored elsewhere.
    """

    def __init__(self, config: EdgeConfig = EDGE) -> None:
        super().__init__()
        if config.text_width and config.context_width:
            raise WeightsError("a text width and a context width: a network is modulated by one of the two")
        self.config = config
        self.context = GlobalContext(config.context_width) if config.context_width else None
        self.multiple = config.multiple
        self.fold: nn.Module = Fold()
        self.unfold: nn.Module = Interleave()
        self.stem = nn.Conv2d(8, config.half_width, 3, padding=1)
        self.body = _Level(
            (config.half_width, config.quarter_width, config.eighth_width),
            (config.half_depth, config.quarter_depth, config.eighth_depth),
            config.text_width or config.context_width,
        )
        self.head = nn.Conv2d(config.half_width, 8, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # training starts at the soft maximum
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        """The fused colour image, (N, 3, H, W)."""
        return self.forward_features(visible, infrared, text)[0]

    def forward_features(
        self, visible: Tensor, infrared: Tensor, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The fused image (N, 3, H, W), the blend weight of the visible luma (N, 1, H, W), 0..1, and what modulated it.

        That is an embedding (N, D): the text's, or what the network made of the whole image; None for neither.
        """
        luma = to_luma(visible)
        planes = torch.cat([luma, infrared], dim=1)
        embedding = text if self.context is None else self.context(planes)
        maps = self._maps(planes, embedding)
        weight = torch.sigmoid(SHARPNESS * maps[:, :1] + PRIOR * (luma - infrared))
        change = (1 - weight) * (infrared - luma) + REACH * maps[:, 1:]
        return visible + change, weight, embedding

    def _maps(self, planes: Tensor, embedding: Tensor | None) -> Tensor:
        """The raw maps (a, b), (N, 2, H, W), for the planes (Y, I), (N, 2, H, W)."""
        height, width = planes.shape[-2:]
        padded = functional.pad(planes, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        features = functional.relu(self.stem(self.fold(padded)), inplace=True)
        maps: Tensor = self.unfold(self.head(self.body(features, embedding)))
        return maps[..., :height, :width]


class _Level(nn.Module):
    """One resolution of the U-Net: half of its convolutions, the coarser levels in between, the other half.

    ``embedding`` (N, ``embedding_width``), of the text or of the whole image, modulates the features; None: nothing does.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], embedding_width: int | None) -> None:
        super().__init__()
        width, depth = widths[0], depths[0]
        self.condition = TextCondition(embedding_width, width) if embedding_width else None
        before = depth // 2
        self.before = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(before))
        self.after = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth - before))
        self.coarser: _Coarser | None = None
        if len(widths) > 1 and widths[1]:
            self.coarser = _Coarser(width, widths[1:], depths[1:], embedding_width)

    def forward(self, features: Tensor, embedding: Tensor | None) -> Tensor:
        if self.condition is not None:
            if embedding is None:
                raise WeightsError("this network reads a text embedding beside the images, and none was given")
            features = self.condition(features, embedding)
        for convolution in self.before:
            features = _sum(features, functional.relu(convolution(features), inplace=True))
        if self.coarser is not None:
            features = _sum(features, self.coarser(features, embedding))
        for convolution in self.after:
            features = _sum(features, functional.relu(convolution(features), inplace=True))
        return features


def _sum(features: Tensor, change: Tensor) -> Tensor:
    """Their sum, in the memory of ``change`` where no gradient needs it: a tenth of a small network's time."""
    return features + change if torch.is_grad_enabled() else change.add_(features)


class _Coarser(nn.Module):
    """Down to half the resolution, through that level, and back up."""

    def __init__(
        self, width: int, widths: tuple[int, ...], depths: tuple[int, ...], embedding_width: int | None
    ) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, widths[0], 3, stride=2, padding=1)
        self.level = _Level(widths, depths, embedding_width)
        self.up = nn.Conv2d(widths[0], 4 * width, 1)
        self.unfold: nn.Module = nn.PixelShuffle(2)

    def forward(self, features: Tensor, embedding: Tensor | None) -> Tensor:
        below = self.level(functional.relu(self.down(features), inplace=True), embedding)
        finer: Tensor = self.unfold(self.up(below))
        return finer


class Fold(nn.Module):
    """``pixel_unshuffle`` by 2 in one copy, its result channels last: what convolutions of few channels are fastest in."""

    def forward(self, planes: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4·C, H/2, W/2)."""
        count, channels, height, width = planes.shape
        cells = planes.reshape(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return cells.reshape(count, height // 2, width // 2, 4 * channels).permute(0, 3, 1, 2)


class Interleave(nn.Module):
    """``pixel_shuffle`` by 2 by interleaving columns, then rows: of few channels a third of its time in PyTorch."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, 4·C, H, W) to (N, C, 2·H, 2·W)."""
        count, channels, height, width = features.shape
        cells = features.contiguous().reshape(count, channels // 4, 2, 2, height, width)
        rows = torch.stack([cells[:, :, :, 0], cells[:, :, :, 1]], dim=-1)
        return torch.stack([rows[:, :, 0], rows[:, :, 1]], dim=3).reshape(count, channels // 4, 2 * height, 2 * width)


def convolution_of_both(stem: nn.Conv2d) -> nn.Conv2d:
    """Fold and a 3×3 convolution after it as one: 6×6 with stride 2, the same sums. For engines that are slow at folding."""
    kernel = stem.weight.detach()  # (out, 4·C, 3, 3)
    width, channels = kernel.shape[0], kernel.shape[1] // 4
    cells = kernel.reshape(width, channels, 2, 2, 3, 3).permute(0, 1, 4, 2, 5, 3)
    both = nn.Conv2d(channels, width, 6, stride=2, padding=2)
    both.weight.data = cells.reshape(width, channels, 6, 6).clone()
    if stem.bias is not None and both.bias is not None:
        both.bias.data = stem.bias.detach().clone()
    return both


def to_luma(image: Tensor) -> Tensor:
    """ITU-R BT.601 luma, (N, 1, H, W), of (N, 3, H, W)."""
    red, green, blue = image.chunk(3, dim=1)
    luma: Tensor = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return luma
