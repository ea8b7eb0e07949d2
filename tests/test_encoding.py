"""Answers where standard output is not UTF-8, and of files whose names are not: whole, and no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from command_line import Run
from pipeline.synth import draw_pairs


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
@pytest.mark.parametrize("stem", ["bä→", os.fsdecode(b"b\xff")], ids=["letters", "bytes"])
def test_answers_reach_a_place_that_holds_few_letters(fusioncli: Run, tmp_path: Path, encoding: str, stem: str) -> None:
    """A file or a pipe on Windows, or a terminal without UTF-8: tables hold arrows, and file names anything."""
    draw_pairs(tmp_path / "drawn", 1, 3, height=48, width=64)
    (visible,), (infrared,) = ((tmp_path / "drawn" / kind).iterdir() for kind in ("vi", "ir"))
    for folder, image in (("v", visible), ("i", infrared), ("f", visible)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{stem}.png").write_bytes(image.read_bytes())
    words = ("--quiet", "score", "v", "i", "f", "--metrics", "EN")
    set_up = {"PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    table = fusioncli(*words, **set_up)
    assert table.returncode == 0 and "EN" in table.stdout, table.stderr
    answer = fusioncli(*words, "--json", "-", **set_up)
    assert answer.returncode == 0, answer.stderr
    assert [image["name"] for image in json.loads(answer.stdout)["images"]] == [stem]
    written = fusioncli(*words, "--json", "scores.json", **set_up)
    assert written.returncode == 0, written.stderr
    assert json.loads((tmp_path / "scores.json").read_bytes()) == json.loads(answer.stdout)
