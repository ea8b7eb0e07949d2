"""Named conventions: how a toolkit makes grey and computes each metric. A score without one is not a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fusion.metrics import toolkits
from fusion.metrics.catalog import DEFAULT_NAMES, METRICS
from fusion.metrics.grey import opencv_grey, rounded_grey, truncated_grey
from fusion.metrics.metric import Function
from fusion.metrics.triples import Greying


@dataclass(frozen=True, kw_only=True)
class Convention:
    """``grey`` makes the planes; ``functions`` maps each metric the convention knows to what computes it;
    ``units`` names those that differ from the catalogue's."""

    name: str
    title: str
    grey: Greying
    functions: Mapping[str, Function]
    units: Mapping[str, str] = field(default_factory=dict)

    def unit(self, name: str) -> str:
        """The unit of a metric under this convention."""
        return self.units.get(name, METRICS[name].unit)

    @property
    def default_names(self) -> tuple[str, ...]:
        """The default metrics that this convention knows."""
        return tuple(name for name in DEFAULT_NAMES if name in self.functions)


def _shared(*names: str) -> dict[str, Function]:
    """The metrics a toolkit computes as ``standard`` does."""
    return {name: METRICS[name].function for name in names}


_DTPF_GREY: dict[str, Function] = {
    "EN": toolkits.floored_entropy,
    **_shared("SF", "SD"),
    "AG": toolkits.inner_average_gradient,
    **_shared("MI", "CC", "SCD"),
    "PSNR": toolkits.slipped_psnr,
    **_shared("MSE", "VIF", "Qabf", "Nabf"),
    "SSIM": toolkits.slipped_ssim,
}

_ALL = (
    Convention(
        name="standard",
        title="8-bit grey by ITU-R 601, rounded; bits; data range 255; sums over sources where the field sums",
        grey=rounded_grey,
        functions={metric.name: metric.function for metric in METRICS.values()},
    ),
    Convention(
        name="dtpf",
        title="the DTPF script as published: RGB arrays for EN and SF, truncated grey elsewhere, SSIM and PSNR slips",
        grey=truncated_grey,
        functions={**_DTPF_GREY, "EN": toolkits.colour_entropy, "SF": toolkits.colour_spatial_frequency},
    ),
    Convention(
        name="dtpf-grey",
        title="the functions of the DTPF script fed with rounded grey: AG over (H-1)(W-1), SSIM and PSNR slips",
        grey=rounded_grey,
        functions=_DTPF_GREY,
    ),
    Convention(
        name="zoo",
        title="IVIF_ZOO: off-centre VIF windows on zero padding, NMI over the sources' entropies, SSIM and PSNR slips",
        grey=rounded_grey,
        functions={
            "EN": toolkits.floored_entropy,
            **_shared("SF", "SD", "AG"),
            "PSNR": toolkits.slipped_psnr,
            **_shared("MSE"),
            "VIF": toolkits.off_centre_vif,
            **_shared("CC", "SCD", "MI"),
            "NMI": toolkits.source_normalized_information,
            **_shared("Qabf", "Nabf"),
            "SSIM": toolkits.slipped_ssim,
        },
    ),
    Convention(
        name="cddfuse",
        title="the CDDFuse evaluator: OpenCV grey, MI in nats, MSE of grey levels, PSNR by F's maximum, 7 x 7 SSIM",
        grey=opencv_grey,
        functions={
            **_shared("EN", "SF", "SD", "AG"),
            "MI": toolkits.mutual_information_in_nats,
            "MSE": toolkits.squared_error_of_levels,
            "PSNR": toolkits.psnr_of_own_peak,
            **_shared("CC", "SCD", "Qabf", "VIF"),
            "SSIM": toolkits.uniform_ssim,
        },
        units={"MI": "nat", "MSE": "grey level²"},
    ),
)

CONVENTIONS: dict[str, Convention] = {convention.name: convention for convention in _ALL}
