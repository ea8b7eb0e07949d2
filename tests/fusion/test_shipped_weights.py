"""The weights inside the package: they load, say what they are, and fuse real pairs as well as when they were shipped."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusion.bench_run import BenchOptions, bench_sets
from fusion.default_weights import default_weights, shipped_for
from fusion.inference import Fuser
from fusion.score import score
from fusion.weights import find_weights, load_weights, shipped_names
from pipeline.degrade import degrade, labels_for
from pipeline.images import read_image
from pipeline.synth import draw_pairs

SCORES = Path(__file__).parent / "data" / "shipped_scores.json"
LIMIT = 20 * 2**20  # bytes, all shipped weights together
DROP = 0.01


@cache
def recorded() -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(SCORES.read_text())
    return answer


def test_they_are_small_and_half_precision() -> None:
    from safetensors import safe_open

    folders = [find_weights(name) for name in shipped_names()]
    assert folders
    assert sum((folder / "model.safetensors").stat().st_size for folder in folders) <= LIMIT
    for folder in folders:
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.parametrize("name", shipped_names())
def test_the_card_states_data_recipe_results_and_limits(name: str) -> None:
    folder = find_weights(name)
    card = (folder / "README.md").read_text()
    for heading in ("## Training", "## Data", "## Results", "## Limits"):
        assert heading in card
    assert "No weights were trained on test pairs" in " ".join(card.split())
    if name != "edge-spect":  # the one network of which docs/weights.md tells no choice made on test pairs
        assert re.search(r"made on some|tuned on some|test scores of the\s", card), "hides what test pairs decided"
    shared = (
        "by slices, not by patients" if load_weights(name).config["task"] == "medical" else "from the same recordings"
    )
    assert shared in " ".join(card.split()), "hides what train and test share"
    text = card + (folder / "config.json").read_text()
    assert '"/' not in text, "an absolute path of the machine that trained"
    assert load_weights(name).config["training"]["recipe"]["seed"] == 0


def test_a_gpu_gets_the_student_and_a_cpu_edge(tmp_path: Path) -> None:
    assert default_weights(tmp_path, accelerator=True) == ("student", "there is a GPU; --weights chooses")
    assert default_weights(tmp_path) == ("edge", "this machine has no GPU; --weights chooses")


def test_a_benchmark_takes_the_weights_made_for_its_pairs(tmp_path: Path) -> None:
    assert shipped_for("ivf") == ["edge", "edge-robust", "nano"]
    assert shipped_for("medical") == ["edge-ct", "edge-medical", "edge-pet", "edge-spect"]
    assert shipped_for("ivf", accelerator=True) == ["edge", "edge-robust", "nano", "student"]
    assert set(shipped_for("medical", accelerator=True)) - set(shipped_for("medical")) == {"student-medical"}
    assert sorted(shipped_for("ivf", accelerator=True) + shipped_for("medical", accelerator=True)) == shipped_names()
    draw_pairs(tmp_path / "synthetic", 5, 0, height=64, width=64)
    (found,) = bench_sets(BenchOptions(datasets=("synthetic",), root=tmp_path, device="cpu"))
    assert [method.card.name for method in found.methods][-3:] == ["edge", "edge-robust", "nano"]
    assert not {"edge-ct", "edge-pet"} & {method.card.name for method in found.methods}


@pytest.mark.parametrize("name", sorted(recorded()) if SCORES.is_file() else [])
def test_real_pairs_score_as_they_did(name: str, data_root: Path) -> None:
    """A fixed sample of test pairs; one per cent of slack for other processors."""
    fuser = Fuser.from_pretrained(name, device="cpu")
    for key, expected in recorded()[name].items():
        first, second = (data_root / path for path in expected["files"])
        visible, infrared = read_image(first).pixels, read_image(second).pixels
        fused = fuser(visible, infrared)
        found = score(visible, infrared, fused, names=list(expected["scores"]))
        for metric, value in expected["scores"].items():
            assert found[metric] >= value * (1 - DROP), f"{name}, {key}: {metric} {found[metric]:.4f}, was {value:.4f}"


@pytest.mark.parametrize("spoilt", ["high_noise", "infrared_noise", "sensor_artifact", "over_exposure"])
def test_the_robust_network_leaves_out_what_is_spoilt(spoilt: str, data_root: Path) -> None:
    """Against the clean pair it scores higher than ``edge``, which takes every contour for a contour."""
    gains = []
    for entry in recorded()["edge-robust"].values():
        clean = [read_image(data_root / path) for path in entry["files"]]
        seen = [clean[0].eight_bit(), clean[1].eight_bit(grey=True)]
        index = int(spoilt not in labels_for("visible"))
        degraded = degrade(np.random.default_rng(0), seen[index].astype(np.float32) / 255, spoilt, "severe")
        seen[index] = np.rint(degraded * 255).astype(np.uint8)
        found = {name: Fuser.from_pretrained(name, device="cpu")(*seen) for name in ("edge", "edge-robust")}
        scores = {n: score(clean[0].pixels, clean[1].pixels, fused, names=["SSIM"]) for n, fused in found.items()}
        gains.append((scores["edge-robust"]["SSIM"] or 0) - (scores["edge"]["SSIM"] or 0))
    assert np.mean(gains) > 0.1
