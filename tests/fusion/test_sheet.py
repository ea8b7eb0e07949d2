"""The contact sheet: the same pairs and windows every time, true crops at 200 %, and gaps that are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.report.sheet import CELL, CROP, GAP, LINE, PAIRS, ZOOM, Row, check_sheet, crops_of, draw_page, write_sheet
from pipeline.errors import InputError
from pipeline.pairs import evenly_spaced


def row(height: int = 240, width: int = 320) -> Row:
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    infrared = visible[..., 0].copy()
    infrared[20:60, 200:260] = 255  # the sources differ here
    visible[200:, :40] = 250  # and the visible is brightest here, as the infrared is
    infrared[200:, :40] = 250
    return Row(
        name="drawn", visible=visible, infrared=infrared, pictures={"visible": visible, "ours": infrared, "rival": None}
    )


def test_pairs_depend_on_their_number_alone() -> None:
    assert evenly_spaced(361, PAIRS) == [index * 361 // 24 for index in range(24)]
    assert evenly_spaced(5, PAIRS) == [0, 1, 2, 3, 4]


def test_windows_are_where_the_sources_differ_and_where_it_is_bright() -> None:
    drawn = row()
    differs, bright = crops_of(drawn.visible, drawn.infrared)
    assert differs[0] <= 200 < 260 <= differs[2]
    assert differs[1] <= 20 < 60 <= differs[3]
    assert bright[0] == 0
    assert bright[3] == 240
    assert all((x1 - x0, y1 - y0) == CROP for x0, y0, x1, y1 in (differs, bright))


def test_a_picture_smaller_than_the_window_is_shown_whole() -> None:
    drawn = row(61, 64)
    tiny = Row(name="t", visible=drawn.visible, infrared=drawn.infrared, pictures={"visible": drawn.visible})
    assert crops_of(tiny.visible, tiny.infrared) == [(0, 0, 64, 61)] * 2
    assert draw_page([tiny]).width == CELL[0] + 2 * GAP


def test_crops_hold_the_pictures_own_pixels_twice_as_large() -> None:
    drawn = row()
    page = np.asarray(draw_page([drawn]))
    left, top = 2 * GAP + CELL[0], GAP + 2 * LINE + CELL[1] + GAP  # the first crop of "ours"
    shown = page[top : top + CROP[1] * ZOOM, left : left + CROP[0] * ZOOM]
    x0, y0, x1, y1 = crops_of(drawn.visible, drawn.infrared)[0]
    assert (shown[::2, ::2, 0] == drawn.infrared[y0:y1, x0:x1]).all()
    assert (shown[1::2, 1::2] == shown[::2, ::2]).all()


def test_pages_are_numbered_and_the_format_is_the_suffix(tmp_path: Path) -> None:
    pages = write_sheet(tmp_path / "new" / "sheet.webp", "msrs", [row()] * 4)
    assert [page.name for page in pages] == ["sheet-msrs-1.webp", "sheet-msrs-2.webp"]
    assert Image.open(pages[0]).format == "WEBP"
    with pytest.raises(InputError, match="ending in .png"):
        write_sheet(tmp_path / "sheet", "msrs", [row()])


def test_a_sheet_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(InputError, match=r"notes is a file where a folder was expected"):
        check_sheet(tmp_path / "notes" / "sheets" / "sheet.png")
    check_sheet(tmp_path / "new" / "sheets" / "sheet.png")
