"""Every convention gives the numbers of the toolkit it is named after, on six real pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fusion.score import score

CALIBRATION = json.loads((Path(__file__).parent / "data" / "metrics_calibration.json").read_text())
CONVENTION_OF = {
    "dtpf_rgb": "dtpf",
    "dtpf_gray": "dtpf-grey",
    "textbook_gray": "standard",
    "zoo": "zoo",
    "cddfuse": "cddfuse",
}


def tolerance(toolkit: str, metric: str) -> float:
    if metric in ("SSIM", "MS_SSIM"):
        return 1e-3
    return 3e-4 if toolkit == "cddfuse" else 1e-4


def triple(case: dict[str, Any], root: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    first = np.asarray(Image.open(root / case["a"]).convert("RGB")).astype(np.int32)
    second = np.asarray(Image.open(root / case["b"]).convert("L")).astype(np.int32)
    wide = second[:, :, None]
    y, x = np.mgrid[0 : second.shape[0], 0 : second.shape[1]]
    mean = (first + wide + 1) // 2
    fused = {
        "mean": mean,
        "max": np.maximum(first, wide),
        "blend": (3 * np.maximum(first, wide) + first + 2) // 4,
        "noisy": np.clip(mean + ((7 * x + 13 * y) % 17 - 8)[:, :, None], 0, 255),
    }[case["rule"]]
    return first.astype(np.uint8), second.astype(np.uint8), fused.astype(np.uint8)


@pytest.mark.parametrize("toolkit", CONVENTION_OF)
@pytest.mark.parametrize("case", CALIBRATION["cases"], ids=lambda case: case["case"])
def test_a_convention_matches_its_toolkit(case: dict[str, Any], toolkit: str, data_root: Path) -> None:
    expected = case["values"][toolkit]
    names = [name.replace("_", "-") for name in expected]
    found = score(*triple(case, data_root), convention=CONVENTION_OF[toolkit], names=names)
    for name, value in expected.items():
        assert found[name.replace("_", "-")] == pytest.approx(value, rel=tolerance(toolkit, name)), name
