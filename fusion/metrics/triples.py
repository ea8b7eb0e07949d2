"""What is scored: two sources and the fused image, in colour and in a convention's grey."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fusion.metrics.planes import Plane

Greying = Callable[[Tensor], Tensor]


class View:
    """One image batch (N, 1 or 3, H, W) of whole numbers 0..255, and its grey Plane, made when first asked for."""

    def __init__(self, colour: Tensor, greying: Greying) -> None:
        if colour.ndim != 4 or colour.shape[1] not in (1, 3):
            raise ValueError(f"an image batch is (N, 1, H, W) or (N, 3, H, W), not {tuple(colour.shape)}")
        self.colour = colour
        self._greying = greying
        self._grey: Plane | None = None

    @property
    def grey(self) -> Plane:
        """The image in the convention's grey."""
        if self._grey is None:
            self._grey = Plane(self._greying(self.colour))
        return self._grey


class Sources:
    """The two images of a pair, prepared once for any number of fused images."""

    def __init__(self, first: Tensor, second: Tensor, greying: Greying) -> None:
        self.first = View(first, greying)
        self.second = View(second, greying)
        self.greying = greying
        if first.shape[-2:] != second.shape[-2:] or first.shape[0] != second.shape[0]:
            raise ValueError(f"the sources differ in size: {tuple(first.shape)} and {tuple(second.shape)}")

    def with_fused(self, fused: Tensor) -> Triple:
        """The triple with ``fused`` (N, 1 or 3, H, W); what was derived from the sources is kept."""
        return Triple(self, View(fused, self.greying))


class Triple:
    """Sources and fused image; ``first``, ``second`` and ``fused`` are the grey Planes."""

    def __init__(self, sources: Sources, fused: View) -> None:
        if fused.colour.shape[-2:] != sources.first.colour.shape[-2:]:
            sizes = tuple(fused.colour.shape[-2:]), tuple(sources.first.colour.shape[-2:])
            raise ValueError(f"the fused image is {sizes[0]}, its sources are {sizes[1]}")
        self.sources = sources
        self.view = fused

    @property
    def first(self) -> Plane:
        return self.sources.first.grey

    @property
    def second(self) -> Plane:
        return self.sources.second.grey

    @property
    def fused(self) -> Plane:
        return self.view.grey
