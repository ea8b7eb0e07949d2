"""The example script for Slurm: it parses, and its tasks divide the shards among real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.caption import place_in_array
from pipeline.errors import InputError
from pipeline.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "docs/slurm/caption.sh"


def start(step: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(SCRIPT), step],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "FUSIONCLI": f"{sys.executable} -m cli", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_script_parses_and_says_how_it_is_used() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    process = start("dance", DATASET="x")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "plan | run | verify" in output


def test_an_array_of_tasks_divides_the_work(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(14)
    where = {"DATASET": "mine", "STORE": str(tmp_path / "s"), "PAIRS": f"{folders[0]} {folders[1]}"}
    where |= {"OPTIONS": "--captioner scripted --embedder hashing", "SHARD_SIZE": "2"}
    planned = start("plan", **where)
    output, _ = planned.communicate(timeout=120)
    assert planned.returncode == 0, output
    assert Store.open(tmp_path / "s").prior_names() == []

    array = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_STEP": "2"}
    tasks = [start("run", **where, **array, SLURM_ARRAY_TASK_ID=number) for number in ("4", "6")]
    for task in tasks:
        output, _ = task.communicate(timeout=120)
        assert task.returncode == 0, output
    logs = [json.loads(path.read_text())["pairs"] for path in (tmp_path / "s/logs").glob("run-*.json")]
    assert sorted(logs) == [6, 8], "seven shards of two: four for the first task, three for the second"
    verified = start("verify", **where)
    output, _ = verified.communicate(timeout=120)
    assert verified.returncode == 0, output
    assert "no problems" in output


def in_array(monkeypatch: pytest.MonkeyPatch, **given: str) -> None:
    for name in ("ID", "MIN", "STEP", "COUNT"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{name}", raising=False)
    for name, value in given.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, (0, 1)),
        ({"ID": "3", "COUNT": "4"}, (3, 4)),
        ({"ID": "1", "MIN": "1", "STEP": "1", "COUNT": "16"}, (0, 16)),
        ({"ID": "16", "MIN": "1", "STEP": "1", "COUNT": "16"}, (15, 16)),
        ({"ID": "9", "MIN": "1", "STEP": "4", "COUNT": "3"}, (2, 3)),
        ({"ID": "7", "MIN": "7", "COUNT": "1"}, (0, 1)),
    ],
)
def test_an_array_may_begin_anywhere(
    given: dict[str, str], place: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_array(monkeypatch, **given)
    assert place_in_array() == place


def test_a_list_of_tasks_with_gaps_asks_for_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    in_array(monkeypatch, ID="7", MIN="3", STEP="1", COUNT="2")
    with pytest.raises(InputError, match="task 7.*gaps.*--rank and --world-size"):
        place_in_array()


@pytest.mark.parametrize(
    "given", [{"ID": "x"}, {"ID": ""}, {"ID": "-1"}, {"ID": "0", "STEP": "0"}, {"ID": "0", "COUNT": "2.5"}]
)
def test_an_array_whose_numbers_are_none_is_named(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    in_array(monkeypatch, **given)
    name, text = list(given.items())[-1]
    with pytest.raises(InputError, match=f"SLURM_ARRAY_TASK_{name} is '{text}', expected a number of at least"):
        place_in_array()
