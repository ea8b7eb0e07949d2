"""The pictures of a page: which pairs to show, where the methods differ most, what edges were lost or invented."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fusion.baselines import box_mean, luma
from fusion.methods import Pixels, as_batch
from fusion.report.words import headlines
from fusion.results import SOURCES, DatasetResult

QUALITIES = ((640, 84), (560, 76), (448, 68), (320, 58))  # longest side, WebP quality: the first that fits is taken
BUDGET = 14_000_000  # bytes of pictures in one page; a phone still opens it
WORST = 2  # images per metric
CROPS = 3


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One pair with every method's picture, as arrays. ``why`` says why it was chosen, ``notes`` what is known of it."""

    dataset: str
    key: str
    why: tuple[str, ...]
    pictures: Mapping[str, Pixels]
    notes: tuple[str, ...] = ()
    crops: tuple[tuple[int, int, int], ...] = ()


def worst_cases(result: DatasetResult, method: str, metric: str, count: int = WORST) -> list[str]:
    """Keys of the images on which ``method`` does worst."""
    values = result.values[method][metric]
    known = [index for index, value in enumerate(values) if value is not None]
    sign = -1 if result.better[metric] == "lower" else 1
    known.sort(key=lambda index: sign * (values[index] or 0.0))
    return [result.keys[index] for index in known[:count]]


def choose(result: DatasetResult, most: int = 10) -> dict[str, list[str]]:
    """Keys to show with the reasons: the lead's worst cases per headline metric, then evenly spaced others."""
    chosen: dict[str, list[str]] = {}
    lead = result.lead
    for metric in headlines(result):
        end = "highest" if result.better[metric] == "lower" else "lowest"
        for key in worst_cases(result, lead, metric):
            if key in chosen or len(chosen) < most:
                chosen.setdefault(key, []).append(f"among the {end} {metric} of {result.methods[lead].title}")
    typical = [result.keys[round(index * (len(result.keys) - 1) / 3)] for index in range(4)]
    for key in typical:
        if len(chosen) < most:
            chosen.setdefault(key, []).append("one of four evenly spaced pairs")
    return dict(sorted(chosen.items(), key=lambda entry: result.keys.index(entry[0])))


def busiest_crops(pictures: Sequence[Pixels], count: int = CROPS) -> tuple[tuple[int, int, int], ...]:
    """(x, y, side) of the squares where the pictures' brightness differs most, apart from each other.

    pictures: (H, W) or (H, W, 3) uint8 of one size. Needs two; else no crops.
    """
    if len(pictures) < 2:
        return ()
    stack = torch.cat([luma(as_batch(picture)) for picture in pictures])
    height, width = stack.shape[-2:]
    side = max(16, min(height, width) // 5)
    if min(height, width) < 2 * side:
        return ()
    differing = box_mean(stack.var(dim=0, unbiased=False)[None], side // 2)[0, 0]
    margin = side // 2
    inside = differing[margin : height - margin, margin : width - margin].clone()
    crops = []
    for _ in range(count):
        place = int(inside.argmax())
        y, x = divmod(place, inside.shape[1])
        if float(inside[y, x]) < 0:
            break
        crops.append((x, y, side))
        inside[max(0, y - side) : y + side, max(0, x - side) : x + side] = -1
    return tuple(crops)


def edge_errors(visible: Pixels, infrared: Pixels, fused: Pixels) -> NDArray[np.uint8]:
    """(H, W, 3): red where the fused image has a stronger edge than both sources, blue where it lost the stronger one.

    ``|∇F| − max(|∇A|, |∇B|)`` on grey, Sobel / 8, eight times enlarged; black is right.
    """
    strengths = [_gradient(luma(as_batch(picture))) for picture in (visible, infrared, fused)]
    change = (strengths[2] - torch.maximum(strengths[0], strengths[1]))[0, 0] * 8
    red, blue = change.clamp(0, 1), (-change).clamp(0, 1)
    planes = torch.stack([red + 0.15 * blue, 0.35 * torch.maximum(red, blue), blue + 0.1 * red], dim=-1)
    return planes.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()


def _gradient(grey: Tensor) -> Tensor:
    across = grey.new_tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3) / 8
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    return torch.hypot(functional.conv2d(padded, across), functional.conv2d(padded, across.mT))


def data_uri(pixels: Pixels, side: int, quality: int) -> str:
    """A WebP data URI, scaled down to ``side`` pixels on the longer side if it is larger."""
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    memory = io.BytesIO()
    image.save(memory, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(memory.getvalue()).decode()


def encode(
    shots: Sequence[Shot],
    title: Callable[[str, str], str],
    budget: int = BUDGET,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """The shots for the page's script, in the best quality whose pictures fit into ``budget`` bytes.

    ``title`` gives the name of a method on a data set.
    """
    if not shots:
        return []
    for side, quality in QUALITIES:
        sample = sum(len(data_uri(picture, side, quality)) for picture in shots[0].pictures.values())
        guess = sample * 1.6 * len(shots)
        if guess <= budget or (side, quality) == QUALITIES[-1]:
            break
    encoded = []
    for shot in shots:
        visible, infrared = shot.pictures["visible"], shot.pictures["infrared"]
        height, width = visible.shape[:2]
        fused = {name: picture for name, picture in shot.pictures.items() if name not in SOURCES}
        crops = shot.crops or busiest_crops(list(fused.values()))
        encoded.append(
            {
                "dataset": shot.dataset,
                "key": shot.key,
                "why": list(shot.why),
                "notes": list(shot.notes),
                "size": [width, height],
                "crops": [list(crop) for crop in crops],
                "images": {name: data_uri(picture, side, quality) for name, picture in shot.pictures.items()},
                "errors": {
                    name: data_uri(edge_errors(visible, infrared, picture), min(side, 448), quality - 22)
                    for name, picture in fused.items()
                },
                "titles": {name: title(shot.dataset, name) for name in shot.pictures},
            }
        )
        advance()
    return encoded
