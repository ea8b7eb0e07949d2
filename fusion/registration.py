"""Estimating how an infrared image lies on a visible one: a shift, an affine map or a homography.

Coarse: the orientation fields (fusion.structure) of both images are correlated over all shifts at once, for every scale and
rotation of a grid. Fine, for what is more than a shift: over a pyramid the parameters climb the normalised correlation of
the two fields by gradient ascent through kornia's warp. Orientation takes the place of brightness because the two kinds of image share no brightness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from kornia.geometry.transform import homography_warp
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fusion.structure import REACH, Shift, correlate, orientation_field

COARSE_SIDES = (112, 224)  # pixels of the longer side at which the grid is searched, then its best candidates again
CANDIDATES = 6
SCALE_STEP = 1.05
SAME_SIZE_SCALES = 1.25  # searched from 1/1.25 to 1.25 where both images have one size
OTHER_SIZE_SCALES = 2.0  # and from half to twice "the same field of view" where not
ROTATION = 6.0  # degrees either way
ROTATION_STEP = 2.0
FINEST = 640  # pixels of the longer side
STEPS = {160: 60, 320: 40, FINEST: 20}  # of ascent, by pixels of the longer side
FIRST_STEP, LAST_STEP = 0.6, 0.03  # pixels of a level


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Where every pixel of the infrared image lies in the visible one.

    ``matrix`` (3, 3) float64 takes infrared (x, y, 1) to visible; pixel centres lie at integers. ``score`` is the normalised
    correlation of the orientation fields there (1: all edges agree), ``before`` that of the untouched pair, None where the
    sizes differ. ``found`` is the coarse peak, whose ``clear`` says whether to believe it.
    """

    kind: str
    matrix: Tensor
    score: float
    before: float | None
    found: Shift


def estimate(visible: Tensor, infrared: Tensor, kind: str) -> Transform:
    """Estimate the ``kind`` of transform (shift, affine, homography) between two grey images (H, W) and (H', W'), 0..1.

    A shift keeps the infrared's pixels as large as they are; the others search scale and rotation too.
    """
    matrix, found = _coarse(visible, infrared, kind)
    if kind == "shift":
        matrix = _finer_shift(visible, infrared, matrix)
    else:
        for level in STEPS:
            matrix = _refined(visible, infrared, matrix, kind, level)
            if level >= max(visible.shape):
                break
    same = visible.shape == infrared.shape
    return Transform(
        kind=kind,
        matrix=_centred(matrix),
        score=agreement(visible, infrared, matrix),
        before=agreement(visible, infrared, torch.eye(3, dtype=torch.float64)) if same else None,
        found=found,
    )


def agreement(visible: Tensor, infrared: Tensor, matrix: Tensor) -> float:
    """The normalised correlation of the orientation fields under a matrix in corner coordinates."""
    first, moved, valid = _level(visible, infrared, matrix, FINEST)
    return float(_correlation(first, moved, valid))


def warp(image: Tensor, matrix: Tensor, size: tuple[int, int], mode: str = "bicubic") -> tuple[Tensor, Tensor]:
    """Draw (C, H', W') on a canvas of ``size`` through a Transform's matrix: the image, and (H, W) where it has content."""
    corner = _cornered(matrix)
    return _drawn(image, corner, size, mode)


def scaling(size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """The matrix, of a Transform's kind, that scales an image of ``size`` (height, width) to another."""
    return _centred(torch.diag(torch.tensor([to[1] / size[1], to[0] / size[0], 1.0], dtype=torch.float64)))


def _coarse(visible: Tensor, infrared: Tensor, kind: str) -> tuple[Tensor, Shift]:
    """The best similarity of the grid, in corner coordinates, and its peak."""
    candidates = list(_grid(visible, infrared, kind))
    ranked: list[tuple[float, Tensor, Shift, Tensor]] = []
    for side in COARSE_SIDES:
        scale = min(1.0, side / max(visible.shape))
        field = orientation_field(_resized(visible, _scaled(visible, scale)).numpy())
        ranked = []
        for candidate in candidates:
            moved, start = _turned(infrared, candidate, scale)
            right, down, height, lead = correlate(field, moved, REACH if visible.shape == infrared.shape else 1.0)
            shift = torch.eye(3, dtype=torch.float64)
            shift[0, 2], shift[1, 2] = right, down
            found = Shift(right=right / scale, down=down / scale, height=height, lead=lead)
            ranked.append((height, _zoom(1 / scale) @ shift @ start, found, candidate))
        ranked.sort(key=lambda one: -one[0])
        candidates = [one[3] for one in ranked[:CANDIDATES]]
        if scale == 1.0:
            break
    return ranked[0][1], ranked[0][2]


def _grid(visible: Tensor, infrared: Tensor, kind: str) -> Iterator[Tensor]:
    """(2, 2) scale and rotation, infrared to visible pixels."""
    if kind == "shift":
        yield torch.eye(2, dtype=torch.float64)
        return
    same = visible.shape == infrared.shape
    middle = math.sqrt(visible.shape[0] * visible.shape[1] / (infrared.shape[0] * infrared.shape[1]))
    span = math.log(SAME_SIZE_SCALES if same else OTHER_SIZE_SCALES)
    scales = round(span / math.log(SCALE_STEP))
    turns = round(ROTATION / ROTATION_STEP)
    for step in range(-scales, scales + 1):
        scale = middle * math.exp(step * span / scales)
        for turn in range(-turns, turns + 1):
            angle = math.radians(turn * ROTATION_STEP)
            cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
            yield torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)


def _turned(image: Tensor, similarity: Tensor, scale: float) -> tuple[NDArray[np.complex64], Tensor]:
    """The field of the infrared image scaled and turned about its middle, and that map in corner coordinates."""
    height, width = image.shape
    factor = scale * float(similarity.det().sqrt())
    size = max(8, round(height * factor)), max(8, round(width * factor))
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = similarity * scale
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    matrix[:2, 2] = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64) - matrix[:2, :2] @ middle
    drawn, valid = _drawn(image[None], matrix, size, "bilinear")
    return orientation_field(drawn[0].numpy(), valid=valid.numpy()), matrix


def _finer_shift(visible: Tensor, infrared: Tensor, matrix: Tensor) -> Tensor:
    """The correlation's peak at the finest level, unless it is another than that of ``matrix``."""
    scale = _scale(visible, FINEST)
    first, second = (orientation_field(_resized(image, _scaled(image, scale)).numpy()) for image in (visible, infrared))
    right, down, _, _ = correlate(first, second)
    finer = torch.eye(3, dtype=torch.float64)
    finer[0, 2], finer[1, 2] = right / scale, down / scale
    same = float((finer - matrix).norm()) < 2 * max(visible.shape) / COARSE_SIDES[-1]
    return finer if same else matrix


def _refined(visible: Tensor, infrared: Tensor, matrix: Tensor, kind: str, level: int) -> Tensor:
    """Climb the correlation at one level of the pyramid (affine, homography)."""
    first, moved, valid = _level(visible, infrared, matrix, level)
    height, width = first.shape
    planes = torch.stack([moved.real, moved.imag, valid.float()])[None]
    parameters = torch.zeros(3, 3, requires_grad=True)
    free = _free(kind)
    pixel = 2 / max(height, width)
    optimiser = torch.optim.Adam([parameters], lr=FIRST_STEP * pixel)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, (LAST_STEP / FIRST_STEP) ** (1 / STEPS[level]))
    aspect = torch.tensor([[1.0, 1.0, 1.0], [width / height, 1.0, width / height], [1.0, 1.0, 1.0]])
    eye = torch.eye(3)
    for _ in range(STEPS[level]):
        optimiser.zero_grad()
        warped = homography_warp(planes, (eye + parameters * free * aspect)[None], (height, width))[0]
        loss = -_correlation(first, torch.complex(warped[0], warped[1]), warped[2] > 0.99)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    change = (eye + parameters.detach() * free * aspect).double()
    normal = _normal(width, height)
    scale = _zoom(_scale(visible, level))
    # The change says where in the old picture a pixel of the new one comes from.
    better: Tensor = scale.inverse() @ normal.inverse() @ change.inverse() @ normal @ scale @ matrix
    return better / better[2, 2]


def _free(kind: str) -> Tensor:
    """Which entries of the matrix may change."""
    free = torch.zeros(3, 3)
    free[:2] = 1
    if kind == "homography":
        free[2, :2] = 1
    return free


def _level(visible: Tensor, infrared: Tensor, matrix: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
    """At one size: the visible's field, that of the infrared drawn over it, and where that has content."""
    scale = _scale(visible, level)
    small = _resized(visible, _scaled(visible, scale)).numpy()
    drawn, valid = _drawn(infrared[None], _zoom(scale) @ matrix, (small.shape[0], small.shape[1]), "bilinear")
    fields = orientation_field(small), orientation_field(drawn[0].numpy(), valid=valid.numpy())
    return torch.from_numpy(fields[0]), torch.from_numpy(fields[1]), valid


def _correlation(first: Tensor, second: Tensor, valid: Tensor) -> Tensor:
    reference = first * valid
    shared = (reference * second.conj()).real.sum()
    energy = reference.abs().square().sum() * second.abs().square().sum()
    correlation: Tensor = shared / energy.clamp_min(1e-12).sqrt()
    return correlation


def _drawn(image: Tensor, matrix: Tensor, size: tuple[int, int], mode: str) -> tuple[Tensor, Tensor]:
    """Draw (C, H', W') on a canvas of ``size``, corner coordinates; the image is first shrunk where it would alias."""
    height, width = image.shape[-2:]
    zoom = min(1.0, math.sqrt(abs(float(matrix[:2, :2].det()))))
    smaller = max(8, round(height * zoom)), max(8, round(width * zoom))
    source = image
    if zoom < 0.95:
        source = torch.stack([_resized(plane, smaller) for plane in image])
    back = _normal(width, height) @ matrix.inverse() @ _normal(size[1], size[0]).inverse()
    back = (back / back[2, 2]).float()[None]
    drawn = homography_warp(source[None], back, size, mode=mode, padding_mode="border")[0]
    inside = homography_warp(torch.ones(1, 1, height, width), back, size, padding_mode="zeros")[0, 0] > 0.99
    return drawn.clamp(0, 1), inside


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A grey image (H, W) at another size (height, width), without aliasing."""
    whole: Tensor = functional.interpolate(image[None, None], size, mode="bilinear", antialias=True)
    return whole[0, 0]


def _scale(image: Tensor, level: int) -> float:
    return min(1.0, level / max(image.shape))


def _scaled(image: Tensor, scale: float) -> tuple[int, int]:
    return max(8, round(image.shape[0] * scale)), max(8, round(image.shape[1] * scale))


def _zoom(scale: float) -> Tensor:
    return torch.diag(torch.tensor([scale, scale, 1.0], dtype=torch.float64))


def _normal(width: int, height: int) -> Tensor:
    """Corner coordinates to -1..1."""
    return torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64)


def _centred(matrix: Tensor) -> Tensor:
    """From corner coordinates (a pixel's centre at one half) to those with centres at integers."""
    move = torch.eye(3, dtype=torch.float64)
    move[:2, 2] = 0.5
    centred: Tensor = move.inverse() @ matrix @ move
    return centred / centred[2, 2]


def _cornered(matrix: Tensor) -> Tensor:
    move = torch.eye(3, dtype=torch.float64)
    move[:2, 2] = 0.5
    cornered: Tensor = move @ matrix @ move.inverse()
    return cornered
