"""Colour difference of the fused image from the visible one (or from PET, SPECT): CIE ΔE 2000."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LIT = 64  # of 255: darker places show little colour
D65 = (0.95047, 1.0, 1.08883)
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


def colour_difference(first: Tensor, fused: Tensor) -> Tensor:
    """Mean ΔE 2000 between two sRGB batches (N, 1 or 3, H, W) of 0..255, (N,), 0 upwards, lower is better.

    About 1 is just noticeable. Source: Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", Color Res.
    Appl. 2005; sRGB by IEC 61966-2-1, white D65.
    """
    return delta_e_2000(lab(first), lab(fused)).mean(dim=(1, 2))


def lit_colour_difference(first: Tensor, fused: Tensor, grey: Tensor) -> Tensor:
    """Median ΔE 2000 over the lit pixels, where the first source's ``grey`` (N, 1, H, W) is 64 or more; (N,), 0 upwards.

    Lower is better; it says whether the colours that can be seen stay. In the dark, where the fused image should take the
    infrared's brightness, they need not. NaN where nothing is lit.
    """
    differences = delta_e_2000(lab(first), lab(fused))
    lit = torch.where(grey[:, 0] >= LIT, differences, torch.nan)
    return lit.flatten(1).nanmedian(dim=1).values


def lab(image: Tensor) -> Tensor:
    """CIE L*a*b* (N, 3, H, W) of sRGB (N, 1 or 3, H, W) in 0..255."""
    unit = image.float().expand(-1, 3, -1, -1) / 255
    linear = torch.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(TO_XYZ, dtype=linear.dtype, device=linear.device)
    white = torch.tensor(D65, dtype=linear.dtype, device=linear.device)
    xyz = torch.einsum("ij,njhw->nihw", matrix, linear) / white.view(1, 3, 1, 1)
    t = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-12) ** (1 / 3), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = t.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def delta_e_2000(one: Tensor, two: Tensor) -> Tensor:
    """ΔE 2000 of each pixel of two L*a*b* batches (N, 3, H, W), (N, H, W)."""
    l1, a1, b1 = one.unbind(dim=1)
    l2, a2, b2 = two.unbind(dim=1)
    chroma = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    g = 0.5 * (1 - _saturation(chroma))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = torch.atan2(b1, a1) % (2 * math.pi), torch.atan2(b2, a2) % (2 * math.pi)
    coloured = c1 * c2 > 0
    turn = h2 - h1
    turn = torch.where(turn > math.pi, turn - 2 * math.pi, torch.where(turn < -math.pi, turn + 2 * math.pi, turn))
    turn = torch.where(coloured, turn, 0.0)
    hue_difference = 2 * (c1 * c2).sqrt() * torch.sin(turn / 2)
    total = h1 + h2
    apart = (h1 - h2).abs() > math.pi
    middle = torch.where(apart, torch.where(total < 2 * math.pi, total + 2 * math.pi, total - 2 * math.pi), total) / 2
    hue = torch.where(coloured, middle, total)
    lightness, c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * torch.cos(hue - math.radians(30))
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + math.radians(6))
        - 0.20 * torch.cos(4 * hue - math.radians(63))
    )
    off = (lightness - 50).square()
    dl = (l2 - l1) / (1 + 0.015 * off / (20 + off).sqrt())
    dc = (c2 - c1) / (1 + 0.045 * c)
    dh = hue_difference / (1 + 0.015 * c * t)
    blue = torch.exp(-(((torch.rad2deg(hue) - 275) / 25).square()))
    rotation = -2 * _saturation(c) * torch.sin(2 * math.radians(30) * blue)
    return (dl.square() + dc.square() + dh.square() + rotation * dc * dh).clamp_min(0).sqrt()


def _saturation(chroma: Tensor) -> Tensor:
    seventh = chroma**7
    return (seventh / (seventh + 25.0**7)).sqrt()
