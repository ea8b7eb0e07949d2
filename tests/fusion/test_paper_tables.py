"""Every table of the paper resolves to recipes, and one runs from a store to a scored table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fusion.paper_tables import TABLES, resolve, train_variants
from fusion.published import load_paper
from fusion.recipe import load_recipe
from pipeline.errors import InputError
from pipeline.manifest import load_manifest


@pytest.mark.parametrize("number", TABLES)
def test_every_variant_is_a_recipe_of_its_own(number: int) -> None:
    table = TABLES[number]
    task = load_manifest(table.datasets[0]).task
    recipes = [resolve(variant, f"paper-{task}") for variant in table.variants]
    kept = [(recipe.stage, recipe.network, recipe.fusion, recipe.text, str(recipe.factors())) for recipe in recipes]
    assert len(set(kept)) == len(kept)
    names = [variant.name for variant in table.variants]
    assert all(
        variant.teacher is None or variant.teacher in names[:index] for index, variant in enumerate(table.variants)
    )


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_the_ablations_have_the_papers_rows(number: int) -> None:
    printed = {row.method for row in load_paper().rows if row.table == str(number)}
    assert printed == {variant.name for variant in TABLES[number].variants} - {"teacher"}


LOSSES = {"int": {"intensity", "consistency"}, "color": {"colour"}, "grad": {"gradient"}, "ssim": {"ssim"}}


def test_table_4_leaves_exactly_the_terms_that_its_rows_name() -> None:
    """The student's base loss; distillation and the teacher stay whole."""
    for variant in TABLES[4].variants:
        terms = set(resolve(variant, "paper-ivf").factors())
        if variant.stage == "teacher":
            assert terms == set.union(*LOSSES.values())
            continue
        named = set.union(*(LOSSES[part] for part in variant.name.split("+")))
        assert terms == named | {"features", "output"}, variant.name
        assert resolve(variant, "paper-ivf") == load_recipe(variant.recipe, "student")  # by its own name too
        assert set(load_recipe(variant.recipe, "teacher").factors()) == set.union(*LOSSES.values())


def test_table_3_trains_without_text_by_the_papers_weights() -> None:
    without, whole, _ = (resolve(variant, "paper-ivf") for variant in TABLES[3].variants)
    assert (without.text, whole.text, whole.weights) == (False, True, "prior")
    assert without.weights == {"intensity": 24, "consistency": 0, "gradient": 48, "ssim": 40, "colour": 12}


def test_a_table_on_another_recipe_keeps_what_its_rows_are_about() -> None:
    recipe = resolve(TABLES[5].variants[0], "tiny", ["steps=3"])
    assert (recipe.network, recipe.fusion, recipe.steps) == ("teacher-tiny", "concat", 3)
    recipe = resolve(TABLES[7].variants[2], "tiny")
    assert (recipe.network, "output" in recipe.factors(), "features" in recipe.factors()) == (
        "student-tiny",
        True,
        False,
    )


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fusioncli caption --dataset msrs"):
        train_variants(7, None, (), runs=tmp_path, stores=tmp_path, datasets=("msrs",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ten small drawn pairs as the data set ``synthetic``, and their store, as a user would have made it."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for folder, shape in (("vi", (9, 11, 3)), ("ir", (9, 11))):
        place = tmp_path / "data" / "synthetic" / folder
        place.mkdir(parents=True)
        for index in range(10):
            small = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            name = f"{'train' if index < 8 else 'test'}-{index}.png"
            small.resize((56, 48), Image.Resampling.BICUBIC).save(place / name)
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", "synthetic", "--root", "data", "--captioner", "measured", "--embedder", "hashing"]
    assert run("caption", *words).exit_code == 0
    return tmp_path


SHORT = (
    "steps=1",
    "crop=48",
    "batch_size=1",
    "shares_every=1000",
    "log_every=1",
    "validation_pairs=1",
    "validation_crop=48",
)


def run(*words: str) -> Result:
    """The command line in this process: one of its own for each would import torch each time."""
    import cli

    return CliRunner().invoke(cli.app, list(words))


def bench(number: int) -> dict[str, dict[str, dict[str, float]]]:
    """``bench --table``, one tiny training step a variant: method -> metric -> what bench.json says of it."""
    words = ["--table", str(number), "--dataset", "synthetic", "--root", "data", "--recipe", "tiny", "--no-cost"]
    short = [word for setting in SHORT for word in ("--set", setting)]
    done = run("bench", *words, *short, "--metrics", "VIF,Qabf")
    assert done.exit_code == 0, (done.output, done.exception)
    (dataset,) = json.loads(Path("bench/bench.json").read_text())["datasets"]
    return {method["name"]: method["metrics"] for method in dataset["methods"]}


def test_table_7_end_to_end_on_drawn_pairs(home: Path) -> None:
    scores = bench(7)
    for variant in ("teacher", "base", "base+res", "base+feat+res"):
        assert scores[variant]["VIF"]["count"] == 2
    weights = home / "runs/table-7/synthetic/base-feat-res/model.safetensors"
    made = weights.stat().st_mtime_ns
    assert bench(7) == scores
    assert weights.stat().st_mtime_ns == made  # finished runs are not trained again


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_the_other_tables_end_to_end_on_drawn_pairs(home: Path, number: int) -> None:
    del home
    assert bench(number).keys() >= {variant.name for variant in TABLES[number].variants}
