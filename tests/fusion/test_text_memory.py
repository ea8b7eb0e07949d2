"""A study of the text that is killed goes on where it was, and ends with the table it would have had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_line import REPOSITORY, Run
from fusion.edge import EdgeConfig, EdgeNetwork
from fusion.weights import save_weights

SMALL = {"half_width": 4, "quarter_width": 0, "quarter_depth": 0, "eighth_width": 0, "eighth_depth": 0}


@pytest.fixture(scope="module")
def command(new_store: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("study")
    store = new_store(folder, pairs=6)
    save_weights(folder / "plain", EdgeNetwork(EdgeConfig(**SMALL)), "card", {})
    arguments = ["text-study", "--store", str(store), "--arm", f"plain={folder / 'plain'}@none", "--split", "train"]
    return [*arguments, "--label", "low_light", "--label", "motion_blur"]


def found(unfinished: Path) -> dict[str, Any]:
    return dict(json.loads(unfinished.read_bytes())["found"]) if unfinished.exists() else {}


def kill_after(pairs: int, command: list[str], folder: Path) -> None:
    """Run the real command and kill it without warning as soon as so many pairs are kept."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *command, "--out", "study.csv"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while len(found(folder / "study.csv.unfinished")) < pairs:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_study_ends_with_the_same_table(fusioncli: Run, command: list[str], tmp_path: Path) -> None:
    whole = fusioncli(*command, "--out", "whole.csv", "--sheet", "whole.png", "--json", "-")
    assert whole.returncode == 0, whole.stderr
    assert not (tmp_path / "whole.csv.unfinished").exists()
    kill_after(2, command, tmp_path)
    kept = len(found(tmp_path / "study.csv.unfinished"))
    assert kept >= 2 and not (tmp_path / "study.csv").exists()
    again = fusioncli(*command, "--out", "study.csv", "--sheet", "study.png", "--json", "-")
    assert again.returncode == 0, again.stderr
    assert f"study.csv.unfinished: goes on after {kept} pairs" in again.stderr
    assert again.stdout == whole.stdout
    assert (tmp_path / "study.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    pages = sorted(page.name.removeprefix("whole") for page in tmp_path.glob("whole-*.png"))
    assert pages
    for page in pages:  # also of pairs that were known
        with Image.open(tmp_path / f"whole{page}") as one, Image.open(tmp_path / f"study{page}") as other:
            assert one.tobytes() == other.tobytes()
    assert not (tmp_path / "study.csv.unfinished").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"study": "x", "found": {}}', None])
def test_what_another_study_left_or_is_damaged_counts_as_not_there(
    fusioncli: Run, command: list[str], tmp_path: Path, content: bytes | None
) -> None:
    unfinished = tmp_path / "study.csv.unfinished"
    if content is None:  # of the same study, but a finding is damaged
        kill_after(1, command, tmp_path)
        kept = json.loads(unfinished.read_bytes())
        next(iter(kept["found"].values()))[0]["scores"] = {"Qabf": "high"}
        content = json.dumps(kept).encode()
    unfinished.write_bytes(content)
    done = fusioncli(*command, "--out", "study.csv")
    assert done.returncode == 0 and "goes on after" not in done.stderr, done.stderr
    assert (tmp_path / "study.csv").is_file() and not unfinished.exists()
