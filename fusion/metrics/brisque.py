"""BRISQUE through the optional package of that name: its support-vector model was trained on human scores."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.metrics.triples import Triple
from pipeline.errors import MissingPackage


def brisque(triple: Triple) -> Tensor:
    """BRISQUE of the fused image, about 0 (good) to 100, lower is better; on the CPU, one image at a time; (N,).

    Computed by the package ``brisque`` (Apache-2.0), which brings its own model: scores by people cannot be fitted here.
    Raises MissingPackage without it. Source: Mittal, Moorthy and Bovik, "No-reference image quality assessment in the
    spatial domain", IEEE Trans. Image Process. 2012.
    """
    try:
        from brisque import BRISQUE
    except ImportError as error:
        raise MissingPackage(
            "BRISQUE needs the package brisque and OpenCV: pip install 'fusioncli[quality]', or leave BRISQUE out"
        ) from error
    judge = BRISQUE(url=False)
    pictures = triple.view.colour.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().to(torch.uint8).numpy()
    return torch.tensor([float(judge.score(picture)) for picture in pictures])
