"""Times of day in the drawn street: their light for the visible camera, their warmth for the infrared one (0..1)."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.canvas import Colour

HOURS = ("day", "dusk", "night")


@dataclass(frozen=True, kw_only=True)
class Hour:
    """Light and warmth of a time of day."""

    ambient: Colour
    sky: tuple[Colour, Colour]  # at the top, at the horizon
    sky_heat: tuple[float, float]
    road_heat: float
    wall_heat: float
    leaf_heat: float
    lamps: bool
    lit_windows: float


LIGHTS: dict[str, Hour] = {
    "day": Hour(
        ambient=(1.0, 0.98, 0.94),
        sky=((0.30, 0.50, 0.80), (0.74, 0.82, 0.90)),
        sky_heat=(0.06, 0.16),
        road_heat=0.50,
        wall_heat=0.44,
        leaf_heat=0.32,
        lamps=False,
        lit_windows=0.0,
    ),
    "dusk": Hour(
        ambient=(0.62, 0.52, 0.50),
        sky=((0.22, 0.26, 0.46), (0.92, 0.58, 0.36)),
        sky_heat=(0.05, 0.13),
        road_heat=0.46,
        wall_heat=0.42,
        leaf_heat=0.28,
        lamps=True,
        lit_windows=0.3,
    ),
    "night": Hour(
        ambient=(0.25, 0.28, 0.36),
        sky=((0.045, 0.055, 0.11), (0.17, 0.16, 0.20)),
        sky_heat=(0.03, 0.10),
        road_heat=0.38,
        wall_heat=0.36,
        leaf_heat=0.24,
        lamps=True,
        lit_windows=0.35,
    ),
}
WALLS: tuple[Colour, ...] = (
    (0.72, 0.56, 0.44),
    (0.62, 0.36, 0.28),
    (0.80, 0.76, 0.66),
    (0.52, 0.54, 0.58),
    (0.70, 0.64, 0.50),
    (0.46, 0.40, 0.38),
)
PAINTS: tuple[Colour, ...] = (
    (0.70, 0.10, 0.10),
    (0.12, 0.22, 0.50),
    (0.82, 0.82, 0.84),
    (0.16, 0.17, 0.19),
    (0.50, 0.52, 0.55),
    (0.14, 0.36, 0.26),
    (0.85, 0.66, 0.16),
)
CLOTHES: tuple[Colour, ...] = (
    (0.16, 0.18, 0.26),
    (0.55, 0.14, 0.16),
    (0.24, 0.34, 0.22),
    (0.62, 0.58, 0.50),
    (0.12, 0.12, 0.13),
    (0.20, 0.36, 0.60),
)
