"""A drawn street, seen by a visible and an infrared camera at once: a pinhole view down a road, in metres.

The visible image is albedo times light plus what shines; the infrared one is warmth: people and running engines are hot, sky
and window glass cold, asphalt keeps the day's sun. Everything is drawn from far to near.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from pipeline.canvas import Canvas, Colour, Plane, Point, clouds
from pipeline.hours import CLOTHES, LIGHTS, PAINTS, WALLS

CAMERA = 1.6  # metres above the road


class Street:
    """One street scene; ``draw`` paints it on a canvas and returns it."""

    def __init__(self, rng: np.random.Generator, hour: str, height: int, width: int) -> None:
        self.rng = rng
        self.hour = LIGHTS[hour]
        self.canvas = Canvas(height, width)
        self.horizon = height * rng.uniform(0.47, 0.57)
        self.vanishing = width * rng.uniform(0.40, 0.60)
        self.focal = 0.90 * width
        self.road = rng.uniform(3.6, 4.8)  # half its width
        self.grain = (1 + 0.05 * clouds(rng, height, width, 40, 2)).clip(0.7, 1.3)

    def draw(self) -> Canvas:
        self._sky()
        self._ground()
        self._buildings()
        things: list[tuple[float, Callable[[float], None]]]
        things = [(self.rng.uniform(6, 45), self._tree) for _ in range(self.rng.integers(2, 6))]
        things += [(z, self._lamp) for z in _every(9 + self.rng.uniform(0, 6), 48, 14)]
        things += [(self.rng.uniform(7, 36), self._car) for _ in range(self.rng.integers(2, 5))]
        things += [(self.rng.uniform(5, 18), self._person) for _ in range(self.rng.integers(3, 7))]
        for distance, thing in sorted(things, key=lambda entry: -entry[0]):
            thing(distance)
        self.canvas.light += np.array(self.hour.ambient, dtype=np.float32)
        return self.canvas

    def place(self, x: float, y: float, z: float) -> Point:
        """The pixel of a point ``x`` metres right, ``y`` up, ``z`` ahead."""
        return self.vanishing + self.focal * x / z, self.horizon + self.focal * (CAMERA - y) / z

    def quad(self, *corners: tuple[float, float, float], colour: Colour, heat: float, texture: bool = False) -> None:
        """A flat shape in space."""
        points = [self.place(*corner) for corner in corners]
        self.canvas.polygon(points, colour, heat, texture=self.grain if texture else None)

    def _sky(self) -> None:
        canvas, hour = self.canvas, self.hour
        down = np.linspace(0, 1, canvas.height, dtype=np.float32)[:, None] * np.float32(canvas.height / self.horizon)
        down = np.broadcast_to(down.clip(0, 1) ** 1.4, (canvas.height, canvas.width))
        veil = (clouds(self.rng, canvas.height, canvas.width, 3, 5) - 0.3).clip(0, 1.6) * np.float32(0.4)
        top, low = (np.array(colour, dtype=np.float32) for colour in hour.sky)
        colour = top + down[:, :, None] * (low - top)
        white = (0.55 * low + 0.45 * max(hour.ambient)).astype(np.float32)
        canvas.glow[:] = colour + veil[:, :, None] * (white - colour)  # the sky shines itself
        canvas.heat[:] = hour.sky_heat[0] + down * (hour.sky_heat[1] - hour.sky_heat[0]) + 0.10 * veil
        if max(hour.ambient) < 0.4:
            for _ in range(40):
                spot = (self.rng.uniform(0, canvas.width), self.rng.uniform(0, 0.7 * self.horizon))
                canvas.shine(spot, 0.5, (1.0, 1.0, 0.9), self.rng.uniform(0.1, 0.5))
        ridge = clouds(self.rng, 4, canvas.width, 6, 4)[1] * 0.02 * canvas.height
        edge = [(float(x), float(self.horizon - 0.06 * canvas.height + ridge[x])) for x in range(0, canvas.width, 4)]
        outline = [*edge, (canvas.width, self.horizon + 4), (0, self.horizon + 4)]
        canvas.polygon(outline, (0.28, 0.36, 0.30), hour.leaf_heat - 0.04, texture=self.grain)

    def _ground(self) -> None:
        hour, half = self.hour, self.road
        self.quad(
            (-60, 0, 1), (60, 0, 1), (60, 0, 400), (-60, 0, 400), colour=(0.36, 0.42, 0.26), heat=0.30, texture=True
        )
        for side in (-1, 1):
            flags = [(side * half, 0.0, 1.0), (side * 8, 0.0, 1.0), (side * 8, 0.0, 300.0), (side * half, 0.0, 300.0)]
            self.quad(*flags, colour=(0.56, 0.54, 0.51), heat=hour.road_heat - 0.06, texture=True)
        asphalt = [(-half, 0.0, 1.0), (half, 0.0, 1.0), (half, 0.0, 300.0), (-half, 0.0, 300.0)]
        self.quad(*asphalt, colour=(0.29, 0.29, 0.30), heat=hour.road_heat, texture=True)
        for side in (-1, 1):  # kerb, and the tracks that tyres keep warm
            kerb = [(side * half, 0.0, 1.0), (side * half, 0.0, 200.0), (side * (half + 0.2), 0.0, 200.0)]
            self.quad(*kerb, (side * (half + 0.2), 0.0, 1.0), colour=(0.70, 0.69, 0.66), heat=hour.road_heat - 0.02)
            x = side * half / 2
            track = [(x - 0.9, 0.0, 1.0), (x - 0.3, 0.0, 1.0), (x - 0.3, 0.0, 120.0), (x - 0.9, 0.0, 120.0)]
            self.quad(*track, colour=(0.27, 0.27, 0.28), heat=hour.road_heat + 0.05, texture=True)
        for z in _every(3, 90, 6):
            dash = [(-0.09, 0.0, z), (0.09, 0.0, z), (0.09, 0.0, z + 3), (-0.09, 0.0, z + 3)]
            self.quad(*dash, colour=(0.86, 0.85, 0.78), heat=hour.road_heat - 0.05)
        if self.rng.random() < 0.5:
            z = self.rng.uniform(9, 14)
            for x in _every(-half + 0.4, half - 0.4, 1.0):
                bar = [(x, 0.0, z), (x + 0.5, 0.0, z), (x + 0.5, 0.0, z + 3), (x, 0.0, z + 3)]
                self.quad(*bar, colour=(0.86, 0.86, 0.84), heat=hour.road_heat - 0.05)

    def _buildings(self) -> None:
        for side in (-1, 1):
            edges = [float(self.rng.uniform(3, 8))]
            while edges[-1] < 90:
                edges.append(edges[-1] + float(self.rng.uniform(8, 18)))
            for near, far in reversed(list(pairwise(edges))):
                if self.rng.random() < 0.85:
                    self._house(side * 8.5, near, far - float(self.rng.choice([0.0, 0.0, 3.0])))

    def _house(self, x: float, near: float, far: float) -> None:
        hour, rng = self.hour, self.rng
        floors = int(rng.integers(2, 6))
        height = 3.2 * floors + 0.8
        wall = np.array(WALLS[rng.integers(len(WALLS))])
        shade = 1.0 if x > 0 else 0.72  # the sun stands on the left
        heat = hour.wall_heat + float(rng.normal(0, 0.045)) + 0.05 * (shade - 0.85)
        side, front = _colour(wall * shade), _colour(wall * 0.85)
        outer = x + np.sign(x) * 12
        self.quad(
            (x, 0, near), (outer, 0, near), (outer, height, near), (x, height, near),
            colour=front, heat=heat, texture=True,
        )  # fmt: skip
        self.quad((x, 0, near), (x, 0, far), (x, height, far), (x, height, near), colour=side, heat=heat, texture=True)
        cap = [(x, height, near), (x, height, far), (x, height + 0.5, far), (x, height + 0.5, near)]
        self.quad(*cap, colour=_colour(wall * 0.5), heat=heat - 0.08)
        self.quad(
            (x, height, near), (outer, height, near), (outer, height + 0.5, near), (x, height + 0.5, near),
            colour=_colour(wall * 0.45), heat=heat - 0.08,
        )  # fmt: skip
        for floor in range(floors):
            low = 3.2 * floor + 1.0
            for z in _every(near + 1.0, far - 1.6, 2.6):
                self._window([(x, low, z), (x, low, z + 1.3), (x, low + 1.6, z + 1.3), (x, low + 1.6, z)], heat)
            for step in _every(1.2, 10.5, 2.8):
                u = x + np.sign(x) * step
                v = u + np.sign(x) * 1.4
                self._window([(u, low, near), (v, low, near), (v, low + 1.6, near), (u, low + 1.6, near)], heat)

    def _window(self, corners: list[tuple[float, float, float]], wall_heat: float) -> None:
        points = [self.place(*corner) for corner in corners]
        if abs(points[0][0] - points[1][0]) < 0.8:
            return
        lit = self.rng.random() < self.hour.lit_windows
        glass = (0.20, 0.25, 0.32) if self.hour.lit_windows < 0.1 else (0.12, 0.14, 0.18)
        self.canvas.polygon(points, glass, wall_heat + 0.10 if lit else wall_heat - 0.16)
        if lit:
            strength = float(self.rng.uniform(0.45, 0.85))
            _glow(self.canvas, points, (1.0, 0.82, 0.50), strength)

    def _tree(self, z: float) -> None:
        rng, hour = self.rng, self.hour
        x = float(rng.choice([-1, 1]) * rng.uniform(self.road + 0.9, 7.6))
        height, spread = float(rng.uniform(3.6, 6.0)), float(rng.uniform(1.3, 2.2))
        trunk = [(x - 0.12, 0.0, z), (x + 0.12, 0.0, z), (x + 0.08, height, z), (x - 0.08, height, z)]
        self.quad(*trunk, colour=(0.26, 0.20, 0.15), heat=hour.leaf_heat + 0.06)
        size = int(np.clip(2.6 * spread * self.focal / z, 6, 900))
        ys, xs = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
        fluff = clouds(rng, size, size, 5, 4)
        mask = ((1 - np.hypot(xs, ys)) * 4.0 + 0.9 * fluff - 0.4).clip(0, 1)
        leaf = np.array(rng.choice([(0.22, 0.38, 0.14), (0.30, 0.40, 0.16), (0.18, 0.32, 0.18)]), dtype=np.float32)
        shade = (1.0 - 0.30 * ys - 0.15 * xs + 0.22 * fluff).clip(0.35, 1.7)
        warmth = (hour.leaf_heat + 0.03 * fluff - 0.03 * ys).astype(np.float32)
        centre_x, centre_y = self.place(x, height, z)
        self.canvas.blend(mask, int(centre_y - size / 2), int(centre_x - size / 2), leaf * shade[:, :, None], warmth)

    def _lamp(self, z: float) -> None:
        for side in (-1, 1):
            x = side * (self.road + 0.6)
            post = [(x - 0.06, 0.0, z), (x + 0.06, 0.0, z), (x + 0.05, 6.0, z), (x - 0.05, 6.0, z)]
            arm = [(x, 5.9, z), (x - side * 1.6, 6.1, z), (x - side * 1.6, 6.2, z), (x, 6.0, z)]
            self.quad(*post, colour=(0.30, 0.31, 0.32), heat=self.hour.wall_heat - 0.08)
            self.quad(*arm, colour=(0.30, 0.31, 0.32), heat=self.hour.wall_heat - 0.08)
            head = self.place(x - side * 1.6, 6.1, z)
            scale = self.focal / z
            warm = 0.75 if self.hour.lamps else self.hour.wall_heat
            self.canvas.ellipse(head, (0.35 * scale, 0.12 * scale), (0.85, 0.84, 0.80), warm)
            if self.hour.lamps:
                self.canvas.shine(head, 0.22 * scale, (1.0, 0.86, 0.58), 0.9)
                foot = self.place(x - side * 1.6, 0, z)
                self.canvas.lighten(foot, (3.4 * scale, 1.1 * scale), (1.0, 0.82, 0.52), 0.55)
                self.canvas.lighten(
                    (foot[0], foot[1] - 2.2 * scale), (2.6 * scale, 2.4 * scale), (1.0, 0.82, 0.52), 0.35
                )

    def _car(self, z: float) -> None:
        rng, hour = self.rng, self.hour
        side = float(rng.choice([-1, 1]))
        parked = rng.random() < 0.35
        x = side * (self.road - 1.1 if parked else self.road / 2)
        oncoming = side < 0 and not parked
        running = not parked or rng.random() < 0.3
        paint = np.array(PAINTS[rng.integers(len(PAINTS))])
        length, roof = 3.6, float(rng.uniform(1.4, 1.75))
        body_heat = hour.wall_heat - 0.06
        self.quad((x - 1.1, 0, z - 0.3), (x + 1.1, 0, z - 0.3), (x + 1.1, 0, z + length), (x - 1.1, 0, z + length),
                  colour=(0.10, 0.10, 0.11), heat=hour.road_heat + (0.16 if running else -0.04))  # fmt: skip
        flank = x - 0.85 if x > 0 else x + 0.85  # the side that the camera sees
        self.quad((flank, 0.3, z), (flank, 0.3, z + length), (flank, 0.95, z + length), (flank, 0.95, z),
                  colour=_colour(paint * 0.62), heat=body_heat)  # fmt: skip
        self.quad((flank, 0.95, z + 0.3), (flank, 0.95, z + 2.8), (flank * 0.98, roof, z + 2.3), (flank * 0.98, roof, z + 0.6),
                  colour=(0.13, 0.15, 0.18), heat=body_heat - 0.14)  # fmt: skip
        for left in (-0.85, 0.5):  # tyres, warm from rolling
            self.quad((x + left, 0, z), (x + left + 0.35, 0, z), (x + left + 0.35, 0.5, z), (x + left, 0.5, z),
                      colour=(0.06, 0.06, 0.06), heat=0.72 if running else body_heat)  # fmt: skip
        face = [(-0.88, 0.25), (0.88, 0.25), (0.90, 0.75), (0.80, 0.98), (-0.80, 0.98), (-0.90, 0.75)]
        self.quad(*((x + a, b, z) for a, b in face), colour=_colour(paint), heat=body_heat)
        cabin = [(-0.80, 0.97), (0.80, 0.97), (0.62, roof), (-0.62, roof)]
        self.quad(*((x + a, b, z) for a, b in cabin), colour=_colour(paint * 0.85), heat=body_heat + 0.02)
        glass = [(-0.70, 1.02), (0.70, 1.02), (0.55, roof - 0.08), (-0.55, roof - 0.08)]
        self.quad(*((x + a, b, z) for a, b in glass), colour=(0.16, 0.20, 0.25), heat=body_heat - 0.16)
        plate = [(-0.26, 0.42), (0.26, 0.42), (0.26, 0.55), (-0.26, 0.55)]
        self.quad(*((x + a, b, z) for a, b in plate), colour=(0.88, 0.88, 0.82), heat=body_heat)
        scale = self.focal / z
        if running and oncoming:  # the bonnet over the engine
            engine = [(-0.62, 0.55), (0.62, 0.55), (0.70, 0.94), (-0.70, 0.94)]
            self.quad(*((x + a, b, z) for a, b in engine), colour=_colour(paint * 0.95), heat=0.86)
        elif running:
            self.canvas.ellipse(self.place(x + 0.5, 0.28, z), (0.16 * scale, 0.10 * scale), (0.12, 0.12, 0.12), 0.97)
            sill = [(-0.6, 0.25), (0.7, 0.25), (0.7, 0.42), (-0.6, 0.42)]
            self.quad(*((x + a, b, z) for a, b in sill), colour=_colour(paint * 0.5), heat=0.70)
        for a in (-0.70, 0.70):
            spot = self.place(x + a, 0.74, z)
            tint: Colour = (0.95, 0.95, 0.92) if oncoming else (0.75, 0.08, 0.07)
            self.canvas.ellipse(spot, (0.17 * scale, 0.09 * scale), tint, 0.60 if running else body_heat)
            if running and hour.lamps:
                self.canvas.shine(spot, 0.14 * scale, tint, 0.95 if oncoming else 0.55)
        if running and hour.lamps and oncoming:
            self.canvas.lighten(self.place(x, 0, z - 1.5), (2.2 * scale, 0.5 * scale), (1.0, 0.97, 0.9), 0.7)

    def _person(self, z: float) -> None:
        rng = self.rng
        walks = rng.random() < 0.75
        x = float(rng.choice([-1, 1]) * rng.uniform(self.road + 0.4, 7.6) if walks else rng.uniform(-3, 3))
        tall, stride = float(rng.uniform(1.55, 1.88)), float(rng.uniform(0.08, 0.34))
        coat, legs = (np.array(CLOTHES[rng.integers(len(CLOTHES))]) for _ in range(2))
        warm = float(rng.uniform(0.76, 0.86))
        scale = self.focal / z
        hip, shoulder = 0.50 * tall, 0.82 * tall
        self.canvas.ellipse(self.place(x, 0, z), (0.34 * scale, 0.07 * scale), (0.16, 0.16, 0.17), self.hour.road_heat)
        for way in (-1, 1):
            foot = x + way * stride
            leg = [(x - 0.11, hip), (x + 0.11, hip), (foot + 0.06, 0.05), (foot - 0.08, 0.05)]
            self.quad(*((a, b, z) for a, b in leg), colour=_colour(legs * (0.8 + 0.2 * way)), heat=warm - 0.12)
            self.canvas.ellipse(self.place(foot, 0.05, z), (0.13 * scale, 0.05 * scale), (0.08, 0.07, 0.07), 0.58)
        for way in (-1, 1):
            hand = x + way * (0.22 + 0.6 * stride)
            arm = [
                (x + way * 0.16, shoulder),
                (x + way * 0.25, shoulder - 0.04),
                (hand + 0.05, hip),
                (hand - 0.05, hip),
            ]
            self.quad(*((a, b, z) for a, b in arm), colour=_colour(coat * 0.8), heat=warm - 0.08)
            self.canvas.ellipse(self.place(hand, hip - 0.03, z), (0.05 * scale, 0.06 * scale), (0.78, 0.58, 0.46), 0.92)
        torso = [(-0.17, hip - 0.05), (0.17, hip - 0.05), (0.23, shoulder - 0.04), (0.12, shoulder + 0.04)]
        torso += [(-0.12, shoulder + 0.04), (-0.23, shoulder - 0.04)]
        self.quad(*((x + a, b, z) for a, b in torso), colour=_colour(coat), heat=warm)
        head = self.place(x, 0.92 * tall, z)
        self.canvas.ellipse(head, (0.10 * scale, 0.135 * scale), (0.78, 0.58, 0.46), 0.97)
        hair = self.place(x, 0.96 * tall, z)
        self.canvas.ellipse(hair, (0.10 * scale, 0.075 * scale), (0.14, 0.10, 0.08), 0.84)


def _every(start: float, stop: float, step: float) -> list[float]:
    return [float(value) for value in np.arange(start, stop, step)]


def _glow(canvas: Canvas, points: list[Point], colour: Colour, strength: float) -> None:
    """Light a painted polygon from inside."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    rows = slice(max(0, int(min(ys))), max(0, int(max(ys)) + 1))
    columns = slice(max(0, int(min(xs))), max(0, int(max(xs)) + 1))
    region: Plane = canvas.glow[rows, columns]
    inner = Canvas(region.shape[0], region.shape[1])
    local = [(x - columns.start, y - rows.start) for x, y in points]
    inner.polygon(local, _colour(np.array(colour) * strength), 0.0)
    region += inner.albedo


def _colour(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> Colour:
    red, green, blue = (float(value) for value in values.clip(0, 1))
    return red, green, blue
