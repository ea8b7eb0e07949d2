"""How much more a fused video changes from frame to frame than its sources do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.images import LUMA

STRIDE = 2  # every second pixel each way: a mean over tens of thousands of pixels needs no more
WEIGHTS = np.array(LUMA, dtype=np.float32)  # of the channels


class FlickerMeter:
    """Mean absolute change of the fused luma minus the larger change of the two sources, in grey levels of 255.

    ``add`` takes the frames of one moment, (H, W) or (H, W, 3) uint8. ``value`` is the mean over all steps, None before the
    second frame; above 0 the fused video flickers more than either source.
    """

    def __init__(self) -> None:
        self.last: tuple[NDArray[np.float32], ...] | None = None
        self.excess: list[float] = []

    def add(self, visible: NDArray[Any], infrared: NDArray[Any], fused: NDArray[Any]) -> None:
        """The next moment's frames, all of one size."""
        frames = tuple(_luma(frame) for frame in (visible, infrared, fused))
        if self.last is not None:
            first, second, result = (
                float(np.abs(new - old).mean()) for new, old in zip(frames, self.last, strict=True)
            )
            self.excess.append(result - max(first, second))
        self.last = frames

    @property
    def value(self) -> float | None:
        """Grey levels per frame."""
        return float(np.mean(self.excess)) if self.excess else None


def _luma(frame: NDArray[Any]) -> NDArray[np.float32]:
    fewer = frame[::STRIDE, ::STRIDE].astype(np.float32)
    grey: NDArray[np.float32] = fewer if fewer.ndim == 2 else fewer @ WEIGHTS
    return grey
