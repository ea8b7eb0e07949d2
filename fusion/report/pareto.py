"""Quality against latency as inline SVG: one dot a method, a line along the best trade-offs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from fusion.results import DatasetResult
from fusion.tables import ARROWS, number

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 20, 44
LINE = 14  # pixels a label needs


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A method's place: milliseconds and mean."""

    title: str
    kind: str
    latency: float
    quality: float


def pareto_plot(result: DatasetResult, metric: str) -> str:
    """An SVG of ``metric`` against latency (logarithmic); empty when fewer than two methods have a cost."""
    dots = [
        Dot(title=card.title, kind=card.kind, latency=card.cost.latency_ms, quality=mean)
        for name, card in result.methods.items()
        if card.fuses and card.cost is not None and (mean := result.summaries[name][metric].mean) is not None
    ]
    if len(dots) < 2:
        return ""
    lower_is_better = result.better[metric] == "lower"
    low_x = 10 ** math.floor(math.log10(min(max(dot.latency, 1e-3) for dot in dots)))
    high_x = 10 ** math.ceil(math.log10(max(dot.latency for dot in dots) * 1.001))
    ticks = nice_ticks(min(dot.quality for dot in dots), max(dot.quality for dot in dots))
    low_y, high_y = ticks[0], ticks[-1]

    def x(latency: float) -> float:
        share = math.log(max(latency, 1e-3) / low_x) / math.log(high_x / low_x)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(quality: float) -> float:
        return HEIGHT - BOTTOM - (quality - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)} against latency">',
        *(_grid_line(y(tick), f"{tick:g}") for tick in ticks),
        *(_tick(x(10**power), _milliseconds(power)) for power in range(_power(low_x), _power(high_x) + 1)),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
        "time for one 640 × 480 pair</text>",
        f'<text class="axis" x="{LEFT}" y="12">{escape(metric)} {ARROWS[result.better[metric]]}</text>',
    ]
    front = frontier(dots, lower_is_better=lower_is_better)
    if len(front) > 1:
        points = " ".join(f"{x(dot.latency):.1f},{y(dot.quality):.1f}" for dot in front)
        parts.append(f'<polyline class="front" points="{points}"/>')
    heights = spread([y(dot.quality) for dot in dots])
    for dot, height in zip(dots, heights, strict=True):
        tip = f"{dot.title}: {metric} {number(dot.quality)}, {dot.latency:.1f} ms"
        parts.append(
            f'<g class="dot {dot.kind}"><title>{escape(tip)}</title>'
            f'<circle cx="{x(dot.latency):.1f}" cy="{y(dot.quality):.1f}" r="5"/>'
            f'<text x="{x(dot.latency) + 9:.1f}" y="{height + 4:.1f}">{escape(dot.title)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def frontier(dots: list[Dot], *, lower_is_better: bool = False) -> list[Dot]:
    """The methods that no other beats in both time and quality, fastest first."""
    sign = -1 if lower_is_better else 1
    front: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.latency, -sign * dot.quality)):
        if not front or sign * dot.quality > sign * front[-1].quality:
            front.append(dot)
    return front


def spread(heights: list[float]) -> list[float]:
    """Heights pushed apart to one line each, in the same order, close to where they were and inside the plot."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed: dict[int, float] = {}
    last = -math.inf
    for index in order:
        last = max(heights[index], last + LINE)
        placed[index] = last
    limit = float(HEIGHT - BOTTOM)
    for index in reversed(order):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - LINE
    return [placed[index] for index in range(len(heights))]


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that cover low..high."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += last == first
    return [round(index * step, 10) for index in range(first, last + 1)]


def _power(value: float) -> int:
    return round(math.log10(value))


def _milliseconds(power: int) -> str:
    return f"{10 ** (power - 3):g} s" if power >= 3 else f"{10.0**power:g} ms"


def _grid_line(height: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _tick(place: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="tick" x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>'
    )
