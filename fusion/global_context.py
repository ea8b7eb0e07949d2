"""What a network that reads no text can tell of an image pair as a whole: haze, noise, too long an exposure.

A degradation is a matter of the whole image, and a small network sees a square of 46 pixels. Grey levels, means and
deviations over all pixels say what a caption would say of it, and an embedding of them takes the place of the text's:
it may be trained to tell that text (the loss term ``prior``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.shared_statistics import WholeImageLayer

BINS = 16  # grey levels of the histograms
WIDTHS = (16, 24, 32)  # channels at a half, a quarter and an eighth of the size
HIDDEN = 128
FLOOR_SHARE = 3e-3  # of the pixels, under the logarithm
FLOOR_VARIANCE = 1e-5


class GlobalContext(WholeImageLayer):
    """(N, 2, H, W) planes, luma and infrared in 0..1, to an embedding (N, ``width``); any H, W ≥ 1.

    Two hidden layers over global statistics: the histogram of each plane in ``BINS`` soft bins, and of features at three
    scales the mean and the deviation, as logarithms where a ratio matters. Global pooling as in squeeze-and-excitation
    (Hu et al., 2018) with more moments; it is in single precision whatever the rest is in. Tiles of one image share what
    is summed over it (``sharing``).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = zip((2, *WIDTHS), WIDTHS, strict=False)
        self.scales = nn.ModuleList(_down(wide, narrow) for wide, narrow in steps)
        self.hidden = nn.Sequential(
            nn.Linear(2 * BINS + 2 * sum(WIDTHS), HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU()
        )
        self.out = nn.Linear(HIDDEN, width)

    def forward(self, planes: Tensor) -> Tensor:
        kind = self.out.weight.dtype
        embedding: Tensor = self.out(self.hidden(self.statistics(planes).to(kind)))
        return embedding

    def statistics(self, planes: Tensor) -> Tensor:
        """(N, 176) float32, each of a size near 1: log histograms, then means and log deviations of every scale."""
        sums = [_with_count(_levels(planes.float()[..., ::2, ::2]))]
        features = planes
        for scale in self.scales:
            features = scale(features)
            raw = features.float()
            sums.append(_with_count(torch.cat([raw, raw.square()], dim=1)))
            features = functional.relu(features)
        widths = [part.shape[1] for part in sums]
        levels, *moments = torch.split(self.over_all_tiles(torch.cat(sums, dim=1)), widths, dim=1)
        found = [(_mean(levels).add(FLOOR_SHARE).log() + 3.5) * 0.7]
        for part in moments:
            means, squares = _mean(part).chunk(2, dim=1)
            variances = (squares - means.square()).clamp_min(0)
            found += [2 * means, variances.add(FLOOR_VARIANCE).log() / 2 + 3]
        return torch.cat(found, dim=1)


def _down(wide: int, narrow: int) -> nn.Conv2d:
    convolution = nn.Conv2d(wide, narrow, 3, stride=2, padding=1)
    nn.init.kaiming_normal_(convolution.weight)  # PyTorch's own, a sixth of the variance, would sink into the floor
    return convolution


def _levels(planes: Tensor) -> Tensor:
    """(N, 2, H, W) to (N, 2·BINS, H, W): how much a pixel belongs to each grey level, triangles that sum to 1."""
    centres = torch.linspace(0, 1, BINS, dtype=planes.dtype, device=planes.device).view(1, 1, BINS, 1, 1)
    return (1 - (planes.unsqueeze(2) - centres).abs() * (BINS - 1)).clamp_min(0).flatten(1, 2)


def _with_count(maps: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C + 1): sums over all pixels, and their number in a form that every exporter follows."""
    return torch.cat([maps, torch.ones_like(maps[:, :1])], dim=1).sum(dim=(2, 3))


def _mean(sums: Tensor) -> Tensor:
    return sums[:, :-1] / sums[:, -1:]
