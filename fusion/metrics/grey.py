"""From colour to one grey channel of whole numbers 0..255, as the toolkits do it.

Images are (N, 1, H, W) or (N, 3, H, W) of whole numbers 0..255 in any dtype; the answer is (N, 1, H, W) float32.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rounded_grey(image: Tensor) -> Tensor:
    """ITU-R 601 luma .299 R + .587 G + .114 B, rounded (16-bit fixed point, equal to PIL's mode L)."""
    return _fixed_point(image, (19595, 38470, 7471), 16)


def opencv_grey(image: Tensor) -> Tensor:
    """The same luma in OpenCV's 15-bit fixed point: a grey level apart from PIL's for one random colour in a thousand."""
    return _fixed_point(image, (9798, 19235, 3735), 15)


def truncated_grey(image: Tensor) -> Tensor:
    """Luma with weights .2989, .587, .114, cut off instead of rounded: a grey pixel v > 0 becomes v - 1."""
    if image.shape[1] == 1:
        image = image.expand(-1, 3, -1, -1)
    red, green, blue = image.double().unbind(dim=1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).to(torch.int32).float().unsqueeze(1)


def _fixed_point(image: Tensor, weights: tuple[int, int, int], bits: int) -> Tensor:
    if image.shape[1] == 1:
        return image.float()
    # whole numbers under 2^24: float32 is exact, and one product over the last dimension is the fastest way there
    taps = torch.tensor(weights, dtype=torch.float32, device=image.device)
    luma = image.permute(0, 2, 3, 1).float() @ taps
    return luma.add_(1 << (bits - 1)).mul_(2.0**-bits).floor_().unsqueeze(1)
