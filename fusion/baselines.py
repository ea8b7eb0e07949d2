"""Fusion without learning: the trivial and classical methods that put every claim in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fusion.pyramids import laplacian_pyramid, laplacian_rebuild, wavelet_rebuild, wavelet_split
from pipeline.images import LUMA

Rule = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A method without weights. ``rule`` fuses two grey images (N, 1, H, W) of 0..1; colour is added by ``fuse``."""

    name: str
    title: str
    rule: Rule
    source: str

    def fuse(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Fuse a batch: visible (N, 3 or 1, H, W), infrared (N, 1, H, W), all 0..1; returns the visible's shape.

        The rule works on luma and the visible's colour comes back by ``recolour``. "infrared" stays grey, because it
        shows the second image untouched.
        """
        if visible.shape[-2:] != infrared.shape[-2:] or visible.shape[0] != infrared.shape[0]:
            raise ValueError(f"visible {tuple(visible.shape)} and infrared {tuple(infrared.shape)} differ in size")
        if self.rule is untouched_first:
            return visible
        if self.rule is untouched_second:
            return infrared.expand_as(visible).clone()
        fused = self.rule(luma(visible), infrared).clamp(0, 1)
        return recolour(visible, fused)


def luma(image: Tensor) -> Tensor:
    """Brightness of (N, 3, H, W) by ITU-R 601, as (N, 1, H, W); one channel passes."""
    if image.shape[1] == 1:
        return image
    weights = image.new_tensor(LUMA).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def recolour(visible: Tensor, brightness: Tensor) -> Tensor:
    """Give ``visible`` (N, 3 or 1, H, W) the new ``brightness`` (N, 1, H, W), both 0..1, and keep its colour.

    Cb and Cr depend only on differences between channels and Y, so adding the change of Y to every channel keeps them.
    Where that would leave 0..1 the colour is paled by just as much as it takes, so the brightness is exact everywhere.
    """
    if visible.shape[1] == 1:
        return brightness
    colour = visible - luma(visible)
    room = torch.where(colour > 0, 1 - brightness, brightness)
    reach = torch.where(colour.abs() > 1e-6, room / colour.abs().clamp_min(1e-6), 1.0)
    share = reach.amin(dim=1, keepdim=True).clamp(0, 1)
    return (brightness + share * colour).clamp(0, 1)


def untouched_first(first: Tensor, second: Tensor) -> Tensor:
    """The first image alone."""
    del second
    return first


def untouched_second(first: Tensor, second: Tensor) -> Tensor:
    """The second image alone."""
    del first
    return second


def mean(first: Tensor, second: Tensor) -> Tensor:
    """``(A + B) / 2``."""
    return (first + second) / 2


def maximum(first: Tensor, second: Tensor) -> Tensor:
    """``max(A, B)`` pixel by pixel."""
    return torch.maximum(first, second)


def stronger(first: Tensor, second: Tensor) -> Tensor:
    """Of each pair of coefficients the one of larger magnitude; the first where they tie."""
    return torch.where(first.abs() >= second.abs(), first, second)


def laplacian(first: Tensor, second: Tensor) -> Tensor:
    """Laplacian pyramid: the stronger detail at every scale, the mean of the coarsest images.

    Source: Burt and Adelson, "The Laplacian pyramid as a compact image code", IEEE Trans. Commun. 1983; fusion by the
    stronger coefficient after Toet, "Image fusion by a ratio of low-pass pyramid", Pattern Recognit. Lett. 1989.
    """
    details_a, base_a = laplacian_pyramid(first)
    details_b, base_b = laplacian_pyramid(second)
    details = [stronger(a, b) for a, b in zip(details_a, details_b, strict=True)]
    return laplacian_rebuild(details, mean(base_a, base_b))


def wavelet(first: Tensor, second: Tensor) -> Tensor:
    """Discrete wavelet transform (LeGall 5/3): the stronger detail in every band, the mean of the coarsest images.

    Source: Li, Manjunath and Mitra, "Multisensor image fusion using the wavelet transform", GMIP 1995; the 5/3 filters
    by lifting after Le Gall and Tabatabai, ICASSP 1988.
    """
    bands_a, base_a = wavelet_split(first)
    bands_b, base_b = wavelet_split(second)
    bands = [stronger(a, b) for a, b in zip(bands_a, bands_b, strict=True)]
    return wavelet_rebuild(bands, mean(base_a, base_b), size=(first.shape[-2], first.shape[-1]))


def guided(first: Tensor, second: Tensor) -> Tensor:
    """Guided-filter fusion: base and detail layers, each blended by a saliency map smoothed along the image's edges.

    Base layers by a 31 x 31 mean; saliency by |Laplacian| under a Gaussian (radius 5, sigma 5); the binary map of the
    more salient source is filtered under the source's guidance with (r 45, eps 0.3) for the base and (r 7, eps 1e-6)
    for the detail. Source: Li, Kang and Hu, "Image fusion with guided filtering", IEEE Trans. Image Process. 2013.
    """
    base_a, base_b = box_mean(first, 15), box_mean(second, 15)
    first_wins = (saliency(first) >= saliency(second)).to(first.dtype)
    base_weight = _share(first, second, first_wins, radius=45, epsilon=0.3)
    detail_weight = _share(first, second, first_wins, radius=7, epsilon=1e-6)
    base = base_weight * base_a + (1 - base_weight) * base_b
    detail = detail_weight * (first - base_a) + (1 - detail_weight) * (second - base_b)
    return base + detail


def _share(first: Tensor, second: Tensor, first_wins: Tensor, *, radius: int, epsilon: float) -> Tensor:
    """Weight of the first image, 0..1, so that both filtered weights sum to one."""
    a = guided_filter(first, first_wins, radius=radius, epsilon=epsilon).clamp(0, 1)
    b = guided_filter(second, 1 - first_wins, radius=radius, epsilon=epsilon).clamp(0, 1)
    total = a + b
    return torch.where(total > 1e-6, a / total.clamp_min(1e-6), 0.5)


def guided_filter(guide: Tensor, image: Tensor, *, radius: int, epsilon: float) -> Tensor:
    """Smooth ``image`` along the edges of ``guide``, (N, 1, H, W) of 0..1 (He, Sun and Tang, PAMI 2013, Eq. 5-8)."""
    mean_guide, mean_image = box_mean(guide, radius), box_mean(image, radius)
    covariance = box_mean(guide * image, radius) - mean_guide * mean_image
    variance = (box_mean(guide * guide, radius) - mean_guide * mean_guide).clamp_min(0)
    slope = covariance / (variance + epsilon)
    return box_mean(slope, radius) * guide + box_mean(mean_image - slope * mean_guide, radius)


def box_mean(image: Tensor, radius: int) -> Tensor:
    """Mean over the (2r+1)² window around each pixel, over the part of it that lies inside the image.

    Differences of running sums, whose time does not grow with the radius; in float64, so that they keep their digits.
    """
    return _line_mean(_line_mean(image.double(), radius, -2), radius, -1).to(image.dtype)


def _line_mean(image: Tensor, radius: int, dim: int) -> Tensor:
    length = image.shape[dim]
    places = torch.arange(length, device=image.device)
    first, last = (places - radius).clamp_min(0), (places + radius + 1).clamp_max(length)
    sums = torch.cat([torch.zeros_like(image.narrow(dim, 0, 1)), image.cumsum(dim)], dim=dim)
    counts = (last - first).to(image.dtype)
    if dim == -2:
        counts = counts[:, None]
    return (sums.index_select(dim, last) - sums.index_select(dim, first)) / counts


def saliency(image: Tensor) -> Tensor:
    """|Laplacian| of (N, 1, H, W) under a Gaussian of radius 5 and sigma 5."""
    kernel = image.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    edges = functional.conv2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), kernel).abs()
    offsets = torch.arange(-5, 6, dtype=image.dtype, device=image.device)
    bell = torch.exp(-offsets.square() / 50)
    bell = bell / bell.sum()
    padded = functional.pad(edges, (5, 5, 5, 5), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))


BASELINES: dict[str, Baseline] = {
    "visible": Baseline(name="visible", title="visible alone", rule=untouched_first, source="the first image"),
    "infrared": Baseline(name="infrared", title="infrared alone", rule=untouched_second, source="the second image"),
    "mean": Baseline(name="mean", title="mean", rule=mean, source="(A + B) / 2"),
    "maximum": Baseline(name="maximum", title="maximum", rule=maximum, source="max(A, B)"),
    "laplacian": Baseline(name="laplacian", title="Laplacian pyramid", rule=laplacian, source="Burt and Adelson 1983"),
    "guided": Baseline(name="guided", title="guided filter", rule=guided, source="Li, Kang and Hu 2013"),
    "wavelet": Baseline(name="wavelet", title="wavelet 5/3", rule=wavelet, source="Li, Manjunath and Mitra 1995"),
}
