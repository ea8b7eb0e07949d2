"""Metrics of sharpness without a reference: SF and AG; and the Sobel gradients that other metrics share.

All take grey images (N, 1, H, W) of 0..255, tensors or Planes, and return (N,) in grey levels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as nn

from fusion.metrics.planes import Grey, plane, undefined


def spatial_frequency(fused: Grey) -> Tensor:
    """SF: ``sqrt(RF^2 + CF^2)``, root mean squared differences along rows and columns; higher is better.

    Source: Eskicioglu and Fisher, "Image quality measures and their performance", IEEE Trans. Commun. 1995.
    NaN for images one pixel high or wide.
    """
    image = plane(fused).values
    across, down = image.diff(dim=-1), image.diff(dim=-2)
    return (across.square().mean(dim=(1, 2, 3)) + down.square().mean(dim=(1, 2, 3))).sqrt()


def average_gradient(fused: Grey) -> Tensor:
    """AG: ``mean sqrt((dx^2 + dy^2) / 2)`` with central differences (one-sided on the border), higher is better.

    Source: Cui et al., "Detail preserved fusion of visible and infrared images", Opt. Commun. 2015. The mean is over
    all H * W pixels; some toolkits divide the same sum by (H - 1)(W - 1). NaN for images one pixel high or wide.
    """
    image = plane(fused).values
    if min(image.shape[-2:]) < 2:
        return undefined(plane(fused))
    across, down = torch.gradient(image, dim=(-1, -2))
    return ((across.square() + down.square()) / 2).sqrt().mean(dim=(1, 2, 3))


def sobel(image: Grey, padding: str = "constant") -> tuple[Tensor, Tensor]:
    """Sobel derivatives along rows and along columns, each (N, 1, H, W), not divided by 8.

    ``padding`` as in torch: "constant" (zeros), "replicate" or "reflect". Differentiable.
    """
    grey = plane(image)

    def compute() -> tuple[Tensor, Tensor]:
        padded = nn.pad(grey.values, (1, 1, 1, 1), mode=padding)
        above, here, below = padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :]
        smooth = above + below + 2 * here
        slope = below - above
        along = smooth[..., 2:] - smooth[..., :-2]
        return along, slope[..., 2:] + slope[..., :-2] + 2 * slope[..., 1:-1]

    return grey.recall(("sobel", padding), compute)
