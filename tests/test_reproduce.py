"""The shipped recipe, trained for a few minutes from real pairs: `make reproduce-smoke`, by hand, not in CI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import Run

STEPS = 300
PAIRS = 11  # evenly spaced test pairs of RoadScene, convention standard
BANDS = {"VIF": (0.83, 0.92), "Qabf": (0.585, 0.625), "SSIM": (1.35, 1.40)}


@pytest.mark.reproduce
@pytest.mark.timeout(3600)
def test_a_short_training_of_the_edge_recipe_lands_in_its_band(fusioncli: Run, data_root: Path, tmp_path: Path) -> None:
    made = ["caption", "--dataset", "roadscene", "--captioner", "measured", "--embedder", "hashing"]
    trained = ["distill", "--dataset", "roadscene", "--recipe", "edge", "--teacher", "none", "--out", "run"]
    trained += ["--set", f"steps={STEPS}", "--set", "shares=[]", "--set", f"validate_every={STEPS}"]
    scored = ["bench", "--dataset", "roadscene", "--method", "smoke=run", "--limit", str(PAIRS), "--no-cost"]
    for command in (made, trained, [*scored, "--json", "found.json"]):
        result = fusioncli(*command, timeout=1800, FUSIONCLI_DATA=str(data_root))
        assert result.returncode == 0, result.stderr[-2000:]
    methods = json.loads((tmp_path / "found.json").read_text())["datasets"][0]["methods"]
    smoke = next(method["metrics"] for method in methods if method["name"] == "smoke")
    print({metric: smoke[metric]["mean"] for metric in BANDS})
    for metric, (low, high) in BANDS.items():
        assert low <= smoke[metric]["mean"] <= high, f"{metric} {smoke[metric]['mean']:.4f}, expected {low} to {high}"
