"""The fusion network of the paper: the teacher is it with a text condition, the student is it without, narrower."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.blocks import Block, Down, TextCondition, Up
from fusion.feature_fusion import FUSIONS, CrossFusion
from pipeline.errors import WeightsError, closest

LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What decides the parameters. ``text_width`` None is a network without text."""

    width: int = 48
    expansion: float = 2.66
    refinement: int = 4
    text_width: int | None = 512
    fusion: str = "ours"

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise WeightsError(f"width {self.width}: expected a multiple of 8")
        if int(self.width * self.expansion) < 1:
            raise WeightsError(f"expansion {self.expansion} of width {self.width}: no hidden channel is left")
        if self.fusion not in FUSIONS:
            raise WeightsError(f"no fusion module called {self.fusion!r}{closest(self.fusion, FUSIONS)}")


class Encoder(nn.Module):
    """Stem and four levels of two blocks: (N, channels, H, W) to maps of width d, 2d, 4d, 8d."""

    def __init__(self, channels: int, width: int, expansion: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        widths = [width * 2**level for level in range(LEVELS)]
        self.levels = nn.ModuleList(
            nn.Sequential(*(Block(widths[level], level, expansion) for _ in range(2))) for level in range(LEVELS)
        )
        self.downs = nn.ModuleList(Down(width) for width in widths[:-1])


class FusionNetwork(nn.Module):
    """Visible (N, 3, H, W) and infrared (N, 1, H, W) in 0..1, text (N, D) or None; out (N, 3, H, W), not clamped.

    Any height and width of at least 8: padded by reflection (replication where the image is too small for that) to a
    multiple of ``multiple`` and cropped back.
    """

    multiple = 64  # three halvings of windows of 8

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        d, e = config.width, config.expansion
        self.visible_encoder = Encoder(3, d, e)
        self.infrared_encoder = Encoder(1, d, e)
        self.cross = CrossFusion(8 * d)
        self.fuse = nn.ModuleList(FUSIONS[config.fusion](d * 2**level) for level in range(LEVELS))
        self.ups = nn.ModuleList(Up(d * 2**level) for level in (1, 2, 3))
        self.reduce = nn.ModuleList(nn.Conv2d(d * 2 ** (level + 1), d * 2**level, 1, bias=False) for level in (1, 2))
        widths = self.tap_widths
        self.decoder = nn.ModuleList(
            nn.Sequential(*(Block(widths[level], level, e) for _ in range(2))) for level in range(LEVELS)
        )
        self.refine = nn.Sequential(*(Block(2 * d, 0, e) for _ in range(config.refinement)))
        self.output = nn.Conv2d(2 * d, 3, 3, padding=1, bias=False)
        self.text = (
            nn.ModuleList(TextCondition(config.text_width, d * 2**level) for level in range(LEVELS))
            if config.text_width
            else None
        )

    @property
    def tap_widths(self) -> list[int]:
        """Channels of the four decoder taps, finest first."""
        d = self.config.width
        return [2 * d, 2 * d, 4 * d, 8 * d]

    def forward(self, visible: Tensor, infrared: Tensor, text: Tensor | None = None) -> Tensor:
        return self.forward_features(visible, infrared, text)[0]

    def forward_features(
        self, visible: Tensor, infrared: Tensor, text: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """The fused image and the four decoder taps (finest first), for distillation."""
        if (text is None) != (self.text is None):
            need = "needs a text embedding" if self.text is not None else "takes no text embedding"
            raise WeightsError(f"this network {need}")
        h, w = visible.shape[-2:]
        fused = self._fused_maps(visible, infrared)
        x = self._condition(3, fused.pop(), text)
        taps = [self.decoder[3](x)]
        for level in (2, 1, 0):
            x = self._condition(level, self.ups[level](taps[0]), text)
            x = torch.cat([x, fused.pop()], dim=1)
            if level:
                x = self.reduce[level - 1](x)
            taps.insert(0, self.decoder[level](x))
        residual = self.output(self.refine(taps[0]))[..., :h, :w]
        return visible + residual, taps

    def _fused_maps(self, visible: Tensor, infrared: Tensor) -> list[Tensor]:
        """The fused map of every level, finest first.

        Both encoders go down side by side: the maps of a level are released as soon as they are fused.
        """
        encoders = (self.visible_encoder, self.infrared_encoder)
        padded = (pad_to_multiple(image, self.multiple) for image in (visible, infrared))
        # All maps are channels_last in memory: a pixel's channels side by side are what every layer here reads fastest.
        maps = [
            encoder.stem(image.contiguous(memory_format=torch.channels_last))
            for encoder, image in zip(encoders, padded, strict=True)
        ]
        fused = []
        for level in range(LEVELS):
            maps = [encoder.levels[level](x) for encoder, x in zip(encoders, maps, strict=True)]
            if level == LEVELS - 1:
                maps = list(self.cross(*maps))
            fused.append(self.fuse[level](*maps))
            if level < LEVELS - 1:
                maps = [encoder.downs[level](x) for encoder, x in zip(encoders, maps, strict=True)]
        return fused

    def _condition(self, level: int, x: Tensor, text: Tensor | None) -> Tensor:
        return x if self.text is None or text is None else self.text[level](x, text)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad right and bottom to a multiple, by reflection, by replication where there is too little to reflect."""
    h, w = x.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    if not bottom and not right:
        return x
    mode = "reflect" if bottom < h and right < w else "replicate"
    return functional.pad(x, (0, right, 0, bottom), mode=mode)
