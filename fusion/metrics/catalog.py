"""Every metric by name: what computes it in the convention ``standard``, which way is better, range, unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fusion.metrics import (
    brisque,
    colour,
    departures,
    fmi,
    gradients,
    information,
    nabf,
    naturalness,
    perceptual,
    qabf,
    similarity,
    statistics,
    vif,
)
from fusion.metrics.planes import Grey
from fusion.metrics.triples import Triple

Function = Callable[[Triple], Tensor]
Kind = Literal["fused", "sources", "naturalness"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. ``function`` maps a Triple to (N,), NaN where undefined.

    ``kind``: "fused" looks at the fused image alone, "sources" compares it with its sources, "naturalness" judges the
    fused image alone against statistics of good photographs.
    """

    name: str
    title: str
    function: Function
    better: Literal["higher", "lower"] | None
    range: tuple[float, float]
    unit: str
    kind: Kind

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is, nothing where neither."""
        return {"higher": "↑", "lower": "↓", None: ""}[self.better]


def of_fused(function: Callable[[Grey], Tensor]) -> Function:
    """``function`` of the grey fused image."""
    return lambda triple: function(triple.fused)


def of_all(function: Callable[[Grey, Grey, Grey], Tensor]) -> Function:
    """``function`` of the grey first source, second source and fused image."""
    return lambda triple: function(triple.first, triple.second, triple.fused)


def colour_from_first(triple: Triple) -> Tensor:
    """Mean ΔE 2000 between the first source and the fused image, both in colour."""
    return colour.colour_difference(triple.sources.first.colour, triple.view.colour)


def lit_colour_from_first(triple: Triple) -> Tensor:
    """Median ΔE 2000 between the first source and the fused image where the first source is lit."""
    return colour.lit_colour_difference(triple.sources.first.colour, triple.view.colour, triple.first.values)


INFINITE = float("inf")
COLOUR_NAMES = frozenset({"DeltaE", "DeltaE-lit"})  # undefined in spirit where the fused image is grey
DEFAULT_NAMES = ("EN", "VIF", "Qabf", "SSIM", "MI", "SF", "SD", "AG", "SCD", "CC", "Nabf", "MS-SSIM", "PSNR")

_ALL = (
    Metric(
        name="EN",
        title="entropy",
        function=of_fused(information.entropy),
        better="higher",
        range=(0, 8),
        unit="bit",
        kind="fused",
    ),
    Metric(
        name="VIF",
        title="visual information fidelity, sum over sources",
        function=of_all(vif.vif),
        better="higher",
        range=(0, INFINITE),
        unit="",
        kind="sources",
    ),
    Metric(
        name="VIF-mean",
        title="visual information fidelity, mean over sources",
        function=of_all(vif.mean_vif),
        better="higher",
        range=(0, INFINITE),
        unit="",
        kind="sources",
    ),
    Metric(
        name="Qabf",
        title="edges kept",
        function=of_all(qabf.qabf),
        better="higher",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="SSIM",
        title="structural similarity, sum over sources",
        function=of_all(similarity.ssim),
        better="higher",
        range=(-2, 2),
        unit="",
        kind="sources",
    ),
    Metric(
        name="MI",
        title="mutual information, sum over sources",
        function=of_all(information.mutual_information),
        better="higher",
        range=(0, 16),
        unit="bit",
        kind="sources",
    ),
    Metric(
        name="NMI",
        title="normalised mutual information",
        function=of_all(information.normalized_mutual_information),
        better="higher",
        range=(0, 2),
        unit="",
        kind="sources",
    ),
    Metric(
        name="SF",
        title="spatial frequency",
        function=of_fused(gradients.spatial_frequency),
        better="higher",
        range=(0, 255 * 2**0.5),
        unit="grey level",
        kind="fused",
    ),
    Metric(
        name="SD",
        title="standard deviation",
        function=of_fused(statistics.standard_deviation),
        better="higher",
        range=(0, 127.5),
        unit="grey level",
        kind="fused",
    ),
    Metric(
        name="AG",
        title="average gradient",
        function=of_fused(gradients.average_gradient),
        better="higher",
        range=(0, 255),
        unit="grey level",
        kind="fused",
    ),
    Metric(
        name="SCD",
        title="sum of the correlations of differences",
        function=of_all(statistics.sum_of_correlations_of_differences),
        better="higher",
        range=(-2, 2),
        unit="",
        kind="sources",
    ),
    Metric(
        name="CC",
        title="correlation coefficient, mean over sources",
        function=of_all(statistics.correlation_coefficient),
        better="higher",
        range=(-1, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="Nabf",
        title="edges invented",
        function=of_all(nabf.nabf),
        better="lower",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="MS-SSIM",
        title="multi-scale structural similarity, sum over sources",
        function=of_all(similarity.ms_ssim),
        better="higher",
        range=(0, 2),
        unit="",
        kind="sources",
    ),
    Metric(
        name="MSE",
        title="mean squared error, mean over sources, values 0..1",
        function=of_all(statistics.mean_squared_error),
        better="lower",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="PSNR",
        title="peak signal-to-noise ratio",
        function=of_all(statistics.peak_signal_to_noise_ratio),
        better="higher",
        range=(0, INFINITE),
        unit="dB",
        kind="sources",
    ),
    Metric(
        name="FMI-pixel",
        title="feature mutual information of grey levels",
        function=of_all(fmi.fmi_pixel),
        better="higher",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="FMI-gradient",
        title="feature mutual information of gradients",
        function=of_all(fmi.fmi_gradient),
        better="higher",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="FMI-dct",
        title="feature mutual information of the cosine transform",
        function=of_all(fmi.fmi_dct),
        better="higher",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="Qcb",
        title="visible contrast kept (Chen and Blum)",
        function=of_all(perceptual.qcb),
        better="higher",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="Qcv",
        title="visible difference in salient regions (Chen and Varshney)",
        function=of_all(perceptual.qcv),
        better="lower",
        range=(0, INFINITE),
        unit="grey level²",
        kind="sources",
    ),
    Metric(
        name="Qy",
        title="local similarity (Yang)",
        function=of_all(perceptual.qy),
        better="higher",
        range=(-1, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="DeltaE",
        title="colour difference from the first source, CIE ΔE 2000",
        function=colour_from_first,
        better="lower",
        range=(0, INFINITE),
        unit="ΔE",
        kind="sources",
    ),
    Metric(
        name="DeltaE-lit",
        title="median colour difference where the first source is lit (grey 64 and more), CIE ΔE 2000",
        function=lit_colour_from_first,
        better="lower",
        range=(0, INFINITE),
        unit="ΔE",
        kind="sources",
    ),
    Metric(
        name="LFD",
        title="low-frequency departure from the brighter source",
        function=of_all(departures.low_frequency_departure),
        better="lower",
        range=(0, 255),
        unit="grey level",
        kind="sources",
    ),
    Metric(
        name="Spurious",
        title="share of pixels with an edge neither source has",
        function=of_all(departures.spurious_edge_share),
        better="lower",
        range=(0, 1),
        unit="",
        kind="sources",
    ),
    Metric(
        name="NIQE",
        title="distance from the statistics of good photographs, own model",
        function=of_fused(naturalness.niqe),
        better="lower",
        range=(0, INFINITE),
        unit="",
        kind="naturalness",
    ),
    Metric(
        name="BRISQUE",
        title="quality predicted from image statistics; needs the extra package brisque",
        function=brisque.brisque,
        better="lower",
        range=(-INFINITE, INFINITE),
        unit="",
        kind="naturalness",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
