"""What a network that reads no text can tell of an image pair as a whole: haze, noise, too long an exposure.

A degradation is a matter of the whole image, and a small network sees a square of 46 pixels. Means and standard
deviations over all pixels of a few convolutions are cheap, and an embedding of them takes the place of the text's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.shared_statistics import WholeImageLayer

WIDTHS = (12, 24)
FLOOR = 1e-6  # of a variance under its root


class GlobalContext(WholeImageLayer):
    """(N, 2, H, W) planes, luma and infrared in 0..1, to an embedding (N, ``width``); any H, W ≥ 1.

    Global pooling as in squeeze-and-excitation (Hu et al., 2018), with deviations beside the means; the pooling is in
    single precision whatever the rest is in. Tiles of one image share what is summed over it (``sharing``).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, WIDTHS[0], 3, stride=2, padding=1)
        self.second = nn.Conv2d(*WIDTHS, 3, stride=2, padding=1)
        self.out = nn.Linear(2 * WIDTHS[1], width)

    def forward(self, planes: Tensor) -> Tensor:
        features = functional.relu(self.second(functional.relu(self.first(planes)))).float()
        # The sum of ones is the number of pixels, in a form that every exporter follows.
        ones = torch.ones_like(features[:, :1])
        sums = self.over_all_tiles(torch.cat([features, features.square(), ones], dim=1).sum(dim=(2, 3)))
        means, squares = (sums[:, :-1] / sums[:, -1:]).chunk(2, dim=1)
        deviations = (squares - means.square()).clamp_min(0).add(FLOOR).sqrt()
        embedding: Tensor = self.out(torch.cat([means, deviations], dim=1).to(self.out.weight.dtype))
        return embedding
