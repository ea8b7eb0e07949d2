"""What other people's names and texts may do to a terminal: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from command_line import Run

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b2J"


def test_an_error_shows_a_name_without_its_control_characters(fusioncli: Run, tmp_path: Path) -> None:
    done = fusioncli("fuse", f"{ESCAPES}vis.png", "ir.png", "--out", "out.png")
    assert done.returncode == 2
    assert "]0;title[2J2Jvis.png: " in done.stderr
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr and "\x9b" not in done.stderr


def test_tables_and_notes_show_a_models_words_without_their_control_characters(
    fusioncli: Run, tmp_path: Path, draw_pairs: Any
) -> None:
    first, second = draw_pairs(1)
    captions = tmp_path / "captions"
    captions.mkdir()
    key = next(first.iterdir()).stem
    said = {
        "scene": f"a road{ESCAPES}",
        "visible": [{"type": "low_light", "description": ESCAPES}],
        "infrared": "clean",
    }
    (captions / f"{key}.json").write_text(json.dumps(said))
    made = fusioncli(
        *("caption", "--pairs", first, second, "--store", "s", "--captioner", "import", "--from", captions),
        *("--embedder", "hashing"),
    )
    assert made.returncode == 0, made.stderr
    shown = fusioncli("store", "show", "s", "--key", key)
    assert "a road]0;title[2J2J" in shown.stdout
    assert not set(shown.stdout) & set("\x1b\x07\x9b")
    assert json.loads(fusioncli("store", "show", "s", "--key", key, "--json", "-").stdout)["key"] == key
