"""The benchmark on small pairs made here: alignment of scores, folders that do not fit, caches, what is written."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench_pairs import METRICS, drawn_root, maxima, options
from fusion.bench_run import BenchOptions, run_all
from fusion.results import BenchResult
from fusion.score import score
from pipeline.errors import InputError

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return drawn_root(tmp_path)


def test_every_score_belongs_to_its_image(root: Path) -> None:
    dataset = run_all(options(root)).datasets[0]
    visible = np.asarray(Image.open(root / "synthetic/vi/test-2.png"))
    infrared = np.asarray(Image.open(root / "synthetic/ir/test-2.png"))
    index = dataset.keys.index("test-2")
    expected = score(visible, infrared, visible, names=METRICS)
    assert {metric: dataset.values["visible"][metric][index] for metric in METRICS} == pytest.approx(expected)


def test_a_rivals_folder_scores_like_the_same_method_here(root: Path, tmp_path: Path) -> None:
    rival = maxima(root, tmp_path / "rival")
    (rival / "times.csv").write_text("seconds\n1\n")  # beside the images, as `fusioncli fuse` leaves one
    dataset = run_all(options(root, methods={"rival": str(rival)})).datasets[0]
    for metric in METRICS:
        ours, theirs = dataset.summaries["maximum"][metric].mean, dataset.summaries["rival"][metric].mean
        assert theirs == pytest.approx(ours, rel=2e-2)  # grey is rounded before the maximum there, after it here
    assert dataset.lead == "rival"


def test_sources_take_no_part_in_the_ranking(root: Path) -> None:
    dataset = run_all(options(root)).datasets[0]
    for metric in METRICS:
        assert not {"visible", "infrared"} & dataset.ranks[metric].keys()
        means = {name: dataset.summaries[name][metric].mean for name, card in dataset.methods.items() if card.fuses}
        assert dataset.ranks[metric][max(means, key=lambda name: means[name] or 0)] == 1


def test_missing_images_are_an_error_or_counted(root: Path, tmp_path: Path) -> None:
    rival = maxima(root, tmp_path / "rival")
    (rival / "test-1.png").unlink()
    with pytest.raises(InputError, match=r"1 fused image missing: test-1"):
        run_all(options(root, methods={"rival": str(rival)}))
    dataset = run_all(options(root, methods={"rival": str(rival)}, allow_missing=True)).datasets[0]
    assert dataset.missing == {"rival": 1}
    assert dataset.summaries["rival"]["VIF"].count == 3
    assert "rival" not in dataset.ranks["VIF"]
    for metric in METRICS:  # the best of all is not ranked either where one of its images is missing
        (best, *_) = [name for name, rank in dataset.ranks[metric].items() if rank == 1]
        ranks = replace(dataset, missing={best: 1}).ranks[metric]
        assert best not in ranks and 1 in ranks.values()
    table = (root.parent / "bench" / "table.md").read_text()
    assert "1 of 4 fused images are missing" in table


@pytest.mark.parametrize("fault", ["stray", "other names", "other size", "animated"])
def test_a_folder_that_does_not_fit_is_named(root: Path, tmp_path: Path, fault: str) -> None:
    rival = maxima(root, tmp_path / "rival")
    if fault == "stray":
        Image.new("L", (8, 8)).save(rival / "holiday.png")
        expected = "1 image of no pair: holiday"
    elif fault == "other names":
        for path in list(rival.iterdir()):
            path.rename(rival / f"x{path.name}")
        expected = "none of its 4 images has the name of a pair"
    elif fault == "other size":
        Image.new("L", (81, 64)).save(rival / "test-0.png")
        expected = "1 problem: .*test-0.png is 81 x 64 pixels, its pair 80 x 64"
    else:
        frames = [Image.new("L", (80, 64), value) for value in (0, 200)]
        frames[0].save(rival / "test-0.png", save_all=True, append_images=frames[1:])
        expected = "animated"
    with pytest.raises(InputError, match=expected):
        run_all(options(root, methods={"rival": str(rival)}))


def test_a_metric_that_is_undefined_is_never_a_number(root: Path) -> None:
    result = run_all(options(root, metrics=("EN", "MS-SSIM")))
    dataset = result.datasets[0]
    assert dataset.values["mean"]["MS-SSIM"] == [None] * 4
    assert dataset.summaries["mean"]["MS-SSIM"].mean is None
    row = next(csv.DictReader((root.parent / "bench" / "images.csv").open()))
    assert row["MS-SSIM"] == ""
    text = (root.parent / "bench" / "bench.json").read_text()
    assert "NaN" not in text
    assert "MS-SSIM is undefined on up to 4 of 4 images" in (root.parent / "bench" / "table.md").read_text()


def test_json_csv_markdown_and_latex_agree(root: Path) -> None:
    result = run_all(options(root))
    out = root.parent / "bench"
    written = json.loads((out / "bench.json").read_text())
    mean = {row["name"]: row["metrics"]["VIF"]["mean"] for row in written["datasets"][0]["methods"]}["wavelet"]
    rows = [float(row["VIF"]) for row in csv.DictReader((out / "images.csv").open()) if row["method"] == "wavelet"]
    assert mean == pytest.approx(np.mean(rows))
    assert f"{mean:.3f}" in (out / "table.md").read_text()
    assert f"{mean:.3f}" in (out / "table.tex").read_text()
    assert r"\textbf{" in (out / "table.tex").read_text()
    assert isinstance(result, BenchResult)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "no --dataset given"),
        (["--dataset", "synthetik"], "synthetic"),
        (["--dataset", "synthetic", "--method", "ours"], "expected NAME=PATH"),
        (["--dataset", "synthetic", "--method", "mean=x"], "baseline's name"),
        (["--dataset", "synthetic", "--method", "ours=nowhere"], "no weights"),
        (["--dataset", "synthetic", "--metrics", "VIFF"], "VIF"),
        (["--dataset", "synthetic", "--split", "val"], "no split 'val'"),
    ],
)
def test_wrong_usage_is_one_sentence(root: Path, words: list[str], expected: str) -> None:
    """In this process: a process of its own for each would take two seconds to import torch."""
    from typer.testing import CliRunner

    import cli

    done = CliRunner().invoke(cli.app, ["bench", *words, "--root", str(root), "--out", str(root.parent / "bench")])
    assert isinstance(done.exception, InputError)
    assert expected in str(done.exception)
    assert not (root.parent / "bench").exists()


def test_the_command_prints_json_and_writes_everything(root: Path, fusioncli: Run) -> None:
    words = ("--dataset", "synthetic", "--root", root, "--metrics", "EN,Qabf", "--no-cost", "--json", "-")
    done = fusioncli("bench", *words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [method["name"] for method in answer["datasets"][0]["methods"]][6] == "wavelet"
    written = {path.name for path in (root.parent / "bench").iterdir() if path.is_file()}
    assert written >= {"index.html", "bench.json", "images.csv", "table.md", "table.tex"}


def test_published_ceiling_and_given_boxes_become_tables(root: Path, tmp_path: Path) -> None:
    labels, found = tmp_path / "labels", tmp_path / "found"
    for folder, rest in ((labels, ""), (found, " 0.9")):
        folder.mkdir()
        for index in range(4):
            (folder / f"test-{index}.txt").write_text(f"0 0.5 0.5 0.25 0.25{rest}\n")
    result = run_all(options(root, published=True, ceiling=1, predictions={"rival": str(found)}, labels=labels))
    ceiling, boxes = result.tables  # the paper has no rows on drawn pairs
    assert ceiling.rows[-1][0] == "optimised pixels"
    assert float(ceiling.rows[-1][1]) > float({row[0]: row for row in ceiling.rows}["maximum"][1])
    assert boxes.rows == (("rival", "1.000", "1.000", "1.000", "–", "–"),)
    assert "optimised pixels" in (root.parent / "bench" / "index.html").read_text()


def test_targets_are_scored_inside_the_given_boxes(root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    for index in range(4):
        (labels / f"test-{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n" if index else "")
    dataset = run_all(options(root, metrics=("EN",), boxes=labels)).datasets[0]
    assert dataset.metrics == ("EN", "Target-level", "Target-brightness", "Target-contrast")
    infrared = np.asarray(Image.open(root / "synthetic/ir/test-2.png"))[16:48, 20:60]
    visible = np.asarray(Image.open(root / "synthetic/vi/test-2.png").convert("L"))[16:48, 20:60]
    index = dataset.keys.index("test-2")
    assert dataset.values["infrared"]["Target-level"][index] == pytest.approx(infrared.mean(), abs=1e-3)
    brighter = max(infrared.mean(), visible.mean())
    assert dataset.values["visible"]["Target-brightness"][index] == pytest.approx(visible.mean() / brighter, abs=1e-4)
    assert dataset.values["mean"]["Target-level"][0] is None
    assert "Target-level is undefined on up to 1 of 4" in (root.parent / "bench" / "table.md").read_text()
    (labels / "test-3.txt").unlink()
    with pytest.raises(InputError, match=r"test-3\.txt: no such label file"):
        run_all(options(root, boxes=labels))


def test_the_yardsticks_of_msrs(data_root: Path, tmp_path: Path) -> None:
    """What the trivial methods reach on real pairs (six of them here; 1.03 / 0.70 and 1.04 / 0.65 over forty)."""
    result = run_all(
        BenchOptions(
            datasets=("msrs",), root=data_root, out=tmp_path, limit=6, metrics=("VIF", "Qabf"), cost=False, device="cpu"
        )
    )
    dataset = result.datasets[0]
    maximum, visible = dataset.summaries["maximum"], dataset.summaries["visible"]
    assert maximum["VIF"].mean == pytest.approx(1.04, abs=0.08)
    assert maximum["Qabf"].mean == pytest.approx(0.70, abs=0.06)
    assert visible["VIF"].mean == pytest.approx(1.04, abs=0.06)
    assert dataset.metrics[2] == "Target-level"  # the data set's own boxes are found by themselves
    assert dataset.summaries["maximum"]["Target-level"].mean >= dataset.summaries["infrared"]["Target-level"].mean
    page = (tmp_path / "index.html").read_text()
    assert "the plain pixel maximum, which has no weights at all, reaches VIF" in page
