"""What other toolkits compute under a metric's name where it differs from ours. Used only by their conventions.

The differences were derived from the toolkits' published output (docs/metrics.md has the calibration).
Each function maps a Triple to (N,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusion.metrics import gradients, information, similarity, statistics
from fusion.metrics.planes import LEVELS, count_codes
from fusion.metrics.triples import Triple
from fusion.metrics.vif import LENGTHS, Windows, vif_of_each

DECIBEL_SLIP = 20 * math.log10(255)


def floored_entropy(triple: Triple) -> Tensor:
    """dtpf-grey, zoo EN: ``-sum p log2(p + 1e-7)``."""
    return _floored_bits(information.histogram(triple.fused))


def colour_entropy(triple: Triple) -> Tensor:
    """dtpf EN: one histogram over the values of all three channels."""
    values = triple.view.colour.long().flatten(1)
    return _floored_bits(count_codes(values, LEVELS).double() / values.shape[1])


def colour_spatial_frequency(triple: Triple) -> Tensor:
    """dtpf SF: a (3, H, W) array in a function made for (H, W) takes its differences over channels and over rows."""
    image = triple.view.colour.double()
    image = image.expand(-1, 3, -1, -1)
    between_channels, between_rows = image.diff(dim=1), image.diff(dim=2)
    return (between_channels.square().mean(dim=(1, 2, 3)) + between_rows.square().mean(dim=(1, 2, 3))).sqrt()


def inner_average_gradient(triple: Triple) -> Tensor:
    """dtpf AG: the sum over all H * W pixels divided by (H - 1)(W - 1)."""
    height, width = triple.fused.size
    if min(height, width) < 2:
        return gradients.average_gradient(triple.fused)
    return gradients.average_gradient(triple.fused) * (height * width / ((height - 1) * (width - 1)))


def slipped_psnr(triple: Triple) -> Tensor:
    """dtpf, zoo PSNR: ``20 log10(255 / sqrt(MSE))`` with an MSE of values scaled to 0..1, 48.13 dB too high."""
    return statistics.peak_signal_to_noise_ratio(triple.first, triple.second, triple.fused) + DECIBEL_SLIP


def slipped_ssim(triple: Triple) -> Tensor:
    """dtpf, zoo SSIM: values already 0..255 multiplied by 255 once more, against a data range of 255."""
    return similarity.ssim(triple.first, triple.second, triple.fused, data_range=1.0)


def off_centre_vif(triple: Triple) -> Tensor:
    """zoo VIF: windows sampled from -ceil(N/2) to N//2, half a pixel off their centre, zeros outside the image."""
    to_first, to_second = vif_of_each(triple.first, triple.second, triple.fused, OFF_CENTRE)
    return to_first + to_second


def source_normalized_information(triple: Triple) -> Tensor:
    """zoo NMI: ``2 (I(A;F) + I(B;F)) / (H(A) + H(B))``."""
    shared = information.mutual_information(triple.first, triple.second, triple.fused)
    total = information.entropy(triple.first) + information.entropy(triple.second)
    return torch.where(total > 0, 2 * shared / total, torch.nan)


def mutual_information_in_nats(triple: Triple) -> Tensor:
    """cddfuse MI: ours times ln 2."""
    return information.mutual_information(triple.first, triple.second, triple.fused) * math.log(2)


def squared_error_of_levels(triple: Triple) -> Tensor:
    """cddfuse MSE: over grey levels 0..255."""
    return statistics.mean_squared_error(triple.first, triple.second, triple.fused) * 255.0**2


def psnr_of_own_peak(triple: Triple) -> Tensor:
    """cddfuse PSNR: ``10 log10(max(F)^2 / MSE)``, the fused image's own maximum as peak."""
    error = squared_error_of_levels(triple)
    peak = triple.fused.values.amax(dim=(1, 2, 3))
    return torch.where((error > 0) & (peak > 0), 10 * torch.log10(peak.square() / error), torch.nan)


def uniform_ssim(triple: Triple) -> Tensor:
    """cddfuse SSIM: scikit-image's default, 7 x 7 equal weights."""
    return similarity.uniform_ssim(triple.first, triple.second, triple.fused)


def _floored_bits(share: Tensor) -> Tensor:
    return -(share * torch.log2(share + 1e-7)).sum(dim=1)


def _off_centre_window(length: int) -> tuple[float, ...]:
    start, stop, sigma = -math.ceil(length / 2), length // 2, length / 5
    places = [start + i * (stop - start) / (length - 1) for i in range(length)]
    samples = [math.exp(-(place**2) / (2 * sigma**2)) for place in places]
    return tuple(sample / math.fsum(samples) for sample in samples)


OFF_CENTRE = Windows(weights=tuple(_off_centre_window(length) for length in LENGTHS), zeros_around=True)
