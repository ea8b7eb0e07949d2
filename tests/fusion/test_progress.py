"""The live view of a training, as a terminal of the usual width shows it."""

from __future__ import annotations

import os
import subprocess
import sys

from command_line import REPOSITORY

SCRIPT = """
from fusion.progress import Live
from fusion.recipe import load_recipe
record = {"terms": {"intensity": 1.54, "consistency": 12.4, "gradient": 4.12, "ssim": 1.34, "colour": 0.021},
          "loss": 18.234, "lr": 0.0005, "images_per_second": 12.3, "data_wait": 0.02}
with Live(load_recipe("tiny", "teacher", []), 0, enabled=True) as live:
    live.shares = dict.fromkeys(record["terms"], 0.2)
    live.show(7, record)
"""


def test_nothing_is_cut_off_in_eighty_columns() -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    shown = done.stderr
    assert "…" not in shown and all(len(line) <= 80 for line in shown.splitlines())
    for part in ("teacher-tiny", "7/", "loss 18.234", "12.3 img/s", "wait 2%", "lr 5.0e-04"):
        assert part in shown, shown
    for term in ("intensity 1.54", "consistency 12.4", "gradient 4.12", "ssim 1.34", "colour 0.021"):
        assert f"{term} (20%)" in " ".join(shown.split()), shown
