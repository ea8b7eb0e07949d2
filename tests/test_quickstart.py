"""The quickstart as a stranger runs it, with fewer pairs and steps; the full one is timed by `make quickstart`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_folder_with_something_else_is_left_alone(fusioncli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    done = fusioncli("quickstart", "--out", "mine")
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_project_with_a_data_folder_is_left_alone(fusioncli: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "index.html").write_text("precious")
    done = fusioncli("quickstart", "--out", ".")
    assert done.returncode == 2 and "holds something else" in done.stderr
    assert (tmp_path / "index.html").read_text() == "precious"


def test_wrong_settings_are_noticed_before_anything_is_drawn(fusioncli: Run, tmp_path: Path) -> None:
    done = fusioncli("quickstart", "--out", "here", "--set", "steps=abc")
    assert done.returncode == 2 and "steps: found 'abc'" in done.stderr
    assert not (tmp_path / "here").exists()


def test_a_folder_of_other_pairs_is_refused(fusioncli: Run, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "quickstart.json").write_text('{"pairs": 10, "seed": 7}\n')
    done = fusioncli("quickstart", "--out", "here", "--pairs", "30")
    assert done.returncode == 2, done.stderr
    assert 'a quickstart of {"pairs": 10, "seed": 7} is there' in done.stderr
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["quickstart.json"]


@pytest.mark.slow
def test_the_whole_line_ends_with_pictures_and_a_table(fusioncli: Run, tmp_path: Path) -> None:
    """Trains two networks for a few steps each, so it is slow; no network is reachable in it."""
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    words = ("quickstart", "--out", "here", "--pairs", "10", "--set", "steps=4", "--json", "scores.json")
    done = fusioncli(*words, timeout=800, **nowhere)
    assert done.returncode == 0, done.stderr
    shown = [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.count("│") > 6]
    assert {"student", "teacher", "mean", "maximum", "Laplacian pyramid"} <= set(shown)
    assert "precision" in done.stdout
    assert "fusioncli caption --pairs" in done.stderr  # what to run next
    page = (tmp_path / "here" / "index.html").read_text()
    assert "data:image/webp" in page
    assert "Captioner:" in page
    result = json.loads((tmp_path / "scores.json").read_text())["datasets"][0]
    assert (result["split"], result["n"]) == ("test", 2)
    sizes = {method["name"]: (method["cost"] or {}).get("parameters") for method in result["methods"]}
    assert 0 < sizes["student"] < sizes["teacher"] / 10
