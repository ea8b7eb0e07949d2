"""A contact sheet: the same pairs every time, sources and methods side by side, with crops at 200 % to look into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from fusion.baselines import box_mean, luma
from fusion.methods import Pixels, as_batch
from fusion.results import MethodCard
from pipeline.atomic import atomic_path
from pipeline.errors import InputError

PAIRS = 24  # of a data set, evenly spaced, or all there are: nothing else decides
PAIRS_A_PAGE = 3
CELL = (360, 270)  # the whole picture is fitted into it
CROP = (180, 100)  # pixels of the picture, shown twice as wide and high
ZOOM = 2
LINE = 20  # a line of text
GAP = 6
PAPER, INK = (18, 18, 18), (235, 235, 235)
FRAMES = (255, 210, 60), (90, 200, 255)  # of the two crops
FORMATS = (".png", ".webp", ".jpg")
Window = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pair of the sheet, all (H, W) or (H, W, 3) uint8 of one size; ``pictures`` by title, None where one is missing."""

    name: str
    visible: Pixels
    infrared: Pixels
    pictures: Mapping[str, Pixels | None]


def columns(cards: Mapping[str, MethodCard]) -> list[str]:
    """Names of the methods on the sheet: both sources, then networks and folders; the pixel maximum where there are none."""
    given = [name for name, card in cards.items() if card.kind in ("network", "folder")]
    return ["visible", "infrared", *(given or ["maximum"])]


def crops_of(visible: Pixels, infrared: Pixels) -> list[Window]:
    """Left, top, right, bottom of two crops: where the second source most outshines the first, and where the first is
    brightest.

    In the first lie warm people, which must not be hollow or haloed; in the second sky or a lamp, where small islands
    show. They depend on the sources alone, so that every method and every version of it is seen through the same windows.
    """
    first, second = luma(as_batch(visible)), luma(as_batch(infrared))
    height, width = first.shape[-2:]
    wide, high = min(CROP[0], width), min(CROP[1], height)
    radius = max(1, min(wide, high) // 4)
    found: list[Window] = []
    for interest in ((second - first).clamp_min(0), first):
        means = box_mean(interest, radius)[0, 0].clone()
        for left, top, right, bottom in found:  # the second window lies beside the first, where there is room
            means[max(0, top - high // 2) : bottom + high // 2, max(0, left - wide // 2) : right + wide // 2] = -1
        y, x = divmod(int(torch.argmax(means)), width)
        left = min(max(x - wide // 2, 0), width - wide)
        top = min(max(y - high // 2, 0), height - high)
        found.append((left, top, left + wide, top + high))
    return found


def write_sheet(
    path: Path, dataset: str, rows: Sequence[Row], advance: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write the pages ``<stem>-<dataset>-<page><suffix>`` beside ``path`` and return them; the suffix is the format."""
    check_sheet(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for start in range(0, len(rows), PAIRS_A_PAGE):
        page = path.with_name(f"{path.stem}-{dataset}-{start // PAIRS_A_PAGE + 1}{path.suffix}")
        image = draw_page(rows[start : start + PAIRS_A_PAGE], start + 1)
        with atomic_path(page) as temporary:
            image.save(temporary, format={".jpg": "JPEG"}.get(page.suffix, page.suffix[1:].upper()), quality=90)
        written.append(page)
        advance()
    return written


def check_sheet(path: Path) -> None:
    """Raises InputError where the name is not that of a picture, or not in a folder, before any work."""
    if path.suffix not in FORMATS:
        raise InputError(f"--sheet {path}: a file name ending in {', '.join(FORMATS)} is expected")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir():
        raise InputError(f"--sheet {path}: {there} is a file where a folder was expected; name another")


def draw_page(rows: Sequence[Row], number: int = 1) -> Image.Image:
    """One page: for each pair a line of whole pictures and two lines of crops at 200 %; ``number`` counts the pairs."""
    titles = list(rows[0].pictures)
    heights = [3 * LINE + _whole_size(row.visible)[1] + 2 * (CROP[1] * ZOOM + GAP) + 2 * GAP for row in rows]
    page = Image.new("RGB", (len(titles) * (CELL[0] + GAP) + GAP, sum(heights) + GAP), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for index, row in enumerate(rows):
        top = sum(heights[:index]) + GAP
        crops = crops_of(row.visible, row.infrared)
        height, width = row.visible.shape[:2]
        pen.text((GAP, top), f"{number + index}. {row.name}   {width} x {height}", INK, font)
        for column, title in enumerate(titles):
            left = GAP + column * (CELL[0] + GAP)
            pixels = row.pictures[title]
            pen.text((left, top + LINE), title if pixels is not None else f"{title}: missing", INK, font)
            if pixels is not None:
                _draw_cell(page, pen, pixels, crops, left, top + 2 * LINE)
    return page


def _draw_cell(
    page: Image.Image, pen: ImageDraw.ImageDraw, pixels: Pixels, crops: Sequence[Window], left: int, top: int
) -> None:
    picture = Image.fromarray(pixels).convert("RGB")
    size = _whole_size(pixels)
    scale = size[0] / picture.width
    page.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
    y = top + size[1] + GAP
    for crop, ink in zip(crops, FRAMES, strict=True):
        x0, y0, x1, y1 = (round(edge * scale) for edge in crop)
        pen.rectangle((left + x0, top + y0, left + x1 - 1, top + y1 - 1), outline=ink)
        wide, high = (crop[2] - crop[0]) * ZOOM, (crop[3] - crop[1]) * ZOOM
        page.paste(picture.crop(crop).resize((wide, high), Image.Resampling.NEAREST), (left, y))
        pen.rectangle((left - 1, y - 1, left + wide, y + high), outline=ink)
        y += CROP[1] * ZOOM + GAP


def _whole_size(pixels: Pixels) -> tuple[int, int]:
    height, width = pixels.shape[:2]
    scale = min(CELL[0] / width, CELL[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
