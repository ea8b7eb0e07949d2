"""``fusioncli bench`` with each of its extras, from the command line, on drawn pairs and with tiny random models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from fusion.run_lock import hold

STEMS = ("00001D", "00002N", "00003N")
HEIGHT, WIDTH = 64, 80
MASKS = ("--mask-labels", "{root}/classes", "--mask-classes", "road,person")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three drawn pairs laid out as the test split of MSRS, with boxes, masks, predictions and a rival's images."""
    rng = np.random.default_rng(0)
    home = tmp_path / "data" / "msrs" / "test"
    boxes = home / "det_labels" / "fusion"
    folders = home / "vi", home / "ir", boxes, *(tmp_path / name for name in ("rival", "found", "classes", "masks"))
    for folder in folders:
        folder.mkdir(parents=True)
    for stem in STEMS:
        small = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        visible = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        infrared = np.full((HEIGHT, WIDTH), 30, dtype=np.uint8)
        infrared[16:48, 20:60] = 220
        visible.save(home / "vi" / f"{stem}.png")
        Image.fromarray(infrared).save(home / "ir" / f"{stem}.png")
        Image.fromarray(np.maximum(np.asarray(visible.convert("L")), infrared)).save(tmp_path / "rival" / f"{stem}.png")
        (boxes / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (tmp_path / "found" / f"{stem}.txt").write_text("0 0.5 0.5 0.5 0.5 0.9\n")
        Image.fromarray((infrared > 100).astype(np.uint8)).save(tmp_path / "classes" / f"{stem}.png")
        Image.fromarray((infrared > 250).astype(np.uint8)).save(tmp_path / "masks" / f"{stem}.png")
    return tmp_path


def bench(root: Path, *words: str | Path) -> Result:
    import cli

    shared = ("--dataset", "msrs", "--root", root / "data", "--out", root / "bench", "--device", "cpu", "--no-cost")
    chosen = ("--method", f"rival={root / 'rival'}", "--metrics", "VIF,Qabf", "--json", root / "answer.json")
    return CliRunner().invoke(cli.app, ["bench", *map(str, (*shared, *chosen, *words))])


def tables(root: Path) -> dict[str, Any]:
    return {table["title"].split(":")[0]: table for table in json.loads((root / "answer.json").read_text())["tables"]}


def rows(table: dict[str, Any]) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table["rows"]}


def test_published_rows_are_marked_and_name_their_convention(root: Path) -> None:
    done = bench(root, "--published")
    assert done.exit_code == 0, done.output
    (title, table), *rest = tables(root).items()
    assert not rest
    assert "As published on msrs" in title and "convention likely dtpf" in title
    assert "not measured here" in table["about"]
    assert rows(table)["SuperFusion"][:2] == ["6.587", "0.813"]
    page = (root / "bench" / "index.html").read_text()
    assert "As published on msrs" in page and "6.587" in page
    assert "As published on msrs" in done.stdout


def test_the_ceiling_is_above_every_method(root: Path) -> None:
    done = bench(root, "--ceiling", "2")
    assert done.exit_code == 0, done.output
    found = rows(tables(root)["How much of the reachable VIF + Qabf is reached"])
    top = float(found.pop("optimised pixels")[0])
    fusing = {name: float(cells[0]) for name, cells in found.items() if not name.endswith("alone")}
    assert {"maximum", "rival", "guided filter"} <= fusing.keys()
    assert top > fusing["maximum"]
    assert found["maximum"][1].endswith("%")


def test_detection_by_a_model_and_by_given_boxes(root: Path) -> None:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=[64, 80],
        patch_size=16, num_detection_tokens=5, id2label={0: "person", 1: "car", 2: "tree"},
    )  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(root / "yolos")
    YolosImageProcessor(size={"height": 64, "width": 80}).save_pretrained(root / "yolos")
    done = bench(root, "--detector", root / "yolos", "--predictions", f"theirs={root / 'found'}")
    assert done.exit_code == 0, done.output
    found = rows(tables(root)["Detection"])
    assert found["theirs"][:2] == ["1.000", "1.000"]
    assert {"visible alone", "infrared alone", "maximum", "rival"} <= found.keys()
    assert all(0 <= float(cells[0]) <= 1 for cells in found.values())


def test_segmentation_by_a_model_and_by_given_masks(root: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=2,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(root / "segformer")
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(root / "segformer")
    words = ("--mask-labels", root / "classes", "--mask-classes", "road,person", "--masks", f"theirs={root / 'masks'}")
    done = bench(root, "--segmenter", root / "segformer", *words)
    assert done.exit_code == 0, done.output
    found = rows(tables(root)["Segmentation"])
    assert found["theirs"] == ["0.375", "0.750", "0.000"]  # nothing named a person: 3/4 of the picture is road, by luck
    assert {"visible alone", "infrared alone", "maximum", "rival"} <= found.keys()


def test_missing_images_are_counted_in_every_table(root: Path) -> None:
    (root / "rival" / "00002N.png").unlink()
    for folder in ("found", "masks"):
        (root / folder / "00003N").with_suffix(".txt" if folder == "found" else ".png").unlink()
    refused = bench(root)
    assert "1 fused image missing: 00002N" in str(refused.exception)
    words = ("--allow-missing", "--ceiling", "3", "--predictions", f"theirs={root / 'found'}")
    words = (*words, "--mask-labels", root / "classes", "--mask-classes", "road,person")
    words = (*words, "--masks", f"theirs={root / 'masks'}", "--sheet", root / "sheet.png")
    done = bench(root, *words)
    assert done.exit_code == 0, done.output
    assert "1 missing" in done.stdout
    assert "1 of 3" in (root / "bench" / "table.md").read_text()
    assert "1 of 3" in (root / "bench" / "table.tex").read_text()
    page = (root / "bench" / "index.html").read_text()
    assert "1 image missing" in page
    assert "rival: 1 of 3" in tables(root)["How much of the reachable VIF + Qabf is reached"]["about"]
    for name in ("Detection", "Segmentation"):
        assert "theirs: 1 of 3" in tables(root)[name]["about"]
    assert rows(tables(root)["Detection"])["theirs"][0] == "1.000"
    assert (root / "sheet-msrs-1.png").is_file()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--detector", "./nowhere"), "--detector ./nowhere: no such folder"),
        (("--detector", "{root}/rival"), "not loadable as an object detector"),
        (("--segmenter", "./nowhere"), "needs --mask-labels"),
        (("--masks", "theirs=nowhere", "--mask-labels", "{root}/classes"), "--mask-classes"),
        (("--predictions", "theirs=nowhere"), "nowhere"),
        (("--predictions", "theirs"), "expected NAME=PATH"),
        (("--predictions", "theirs={root}/found", "--labels", "{root}/empty"), "empty: the labels hold no box at all"),
        (("--masks", "theirs={root}/narrow", *MASKS), "narrow: the mask is 10 x 64, its label 80 x 64"),
        (("--masks", "theirs={root}/many", *MASKS), "many: a mask holds class 7; the classes are 0 to 1"),
        (("--masks", "theirs={root}/masks", *MASKS, "--mask-labels", "{root}/many"), "many: a label holds class 7"),
        (("--masks", "theirs={root}/masks", *MASKS, "--mask-labels", "{root}/ignored"), "no labelled pixel at all"),
        (("--detector", "a/b", "--predictions", "rival={root}/found"), "--predictions rival: a method of this"),
        (("--segmenter", "a/b", "--masks", "maximum={root}/masks", *MASKS), "--masks maximum: a method of this"),
        (("--masks", "t={root}/masks", *MASKS, "--mask-classes", "road, road"), "--mask-classes road,road: every"),
        (("--masks", "t={root}/masks", *MASKS, "--mask-classes", "road,,car"), "--mask-classes road,,car: every"),
        (("--method", "guided filter={root}/rival"), "'guided filter' is a baseline's name"),
        (("--boxes", "nowhere"), "--boxes nowhere"),
        (("--boxes", "{root}/few"), "2 problems: {root}/few/00002N.txt: no such label file"),
        (
            ("--segmenter", "a/b", *MASKS, "--mask-labels", "{root}/narrow"),
            "00001D.png: 10 x 64 pixels, its image 80 x 64",
        ),
        (("--ceiling", "1", "--metrics", "EN"), "--ceiling needs VIF and Qabf"),
        (("--sheet", "sheet"), "ending in .png"),
        (("--recipe", "tiny"), "--recipe does nothing without --table"),
        (("--set", "steps=1"), "--set does nothing without --table"),
        (("--labels", "nope"), "--labels does nothing without --detector or --predictions"),
        (("--mask-classes", "a,b"), "--mask-classes does nothing without --segmenter or --masks"),
        (("--method", " =nano"), "--method ' '=nano: a name is 1 to 200 bytes"),
        (("--method", "a\nb=nano"), "a name is 1 to 200 bytes"),
        (("--method", f"{300 * 'a'}=nano"), "a name is 1 to 200 bytes"),
        (("--table", "3"), "fusioncli caption --dataset msrs"),
    ],
)
def test_wrong_extras_are_one_sentence_before_any_work(root: Path, words: tuple[str, ...], expected: str) -> None:
    for stem in STEMS:
        for name, label, width in (("narrow", 0, 10), ("many", 7, WIDTH), ("ignored", 255, WIDTH)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((HEIGHT, width), label, dtype=np.uint8)).save(root / name / f"{stem}.png")
        (root / "empty").mkdir(exist_ok=True)
        (root / "empty" / f"{stem}.txt").write_text("")
    (root / "few").mkdir()
    (root / "few" / "00001D.txt").write_text("")
    done = bench(root, *(word.format(root=root) for word in words), "--stores", root / "stores")
    assert expected.format(root=root) in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (root / "bench").exists()


def test_two_benchmarks_do_not_write_into_one_folder(root: Path) -> None:
    lock = hold(root / "bench")
    refused = bench(root)
    assert "another process is writing a benchmark there" in str(refused.exception)
    lock.release()
    assert bench(root).exit_code == bench(root).exit_code == 0


def test_a_page_that_no_benchmark_made_stays(root: Path) -> None:
    home = root / "bench"
    home.mkdir()
    (home / "index.html").write_text("my home page")
    refused = bench(root)
    assert f"{home}: holds index.html, made by no benchmark; choose another --out" in str(refused.exception)
    assert [path.name for path in home.iterdir()] == ["index.html"]
    (home / "index.html").unlink()
    assert bench(root).exit_code == bench(root).exit_code == 0, "its own files are made anew"


@pytest.mark.parametrize(
    ("size", "other", "words", "expected"),
    [
        ((WIDTH, HEIGHT), (WIDTH + 1, HEIGHT), (), "00003N.png is 81 x 64: the two images of a pair must be"),
        ((WIDTH, 40), (WIDTH, 40), ("--ceiling", "3"), "00003N.png is 80 x 40 pixels; VIF needs 41 x 41 at least"),
    ],
)
def test_a_pair_that_does_not_fit_is_found_before_any_work(
    root: Path, size: tuple[int, int], other: tuple[int, int], words: tuple[str, ...], expected: str
) -> None:
    Image.new("RGB", size).save(root / "data" / "msrs" / "test" / "vi" / "00003N.png")
    Image.new("L", other).save(root / "data" / "msrs" / "test" / "ir" / "00003N.png")
    Image.new("L", size).save(root / "rival" / "00003N.png")
    assert expected in str(bench(root, *words).exception)
    assert not (root / "bench").exists()
