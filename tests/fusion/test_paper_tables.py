"""Every table of the paper resolves to recipes, and one runs from a store to a scored table."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.paper_tables import TABLES, train_variants
from fusion.published import load_paper
from fusion.recipe import load_recipe
from pipeline.errors import InputError
from pipeline.manifest import load_manifest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("number", TABLES)
def test_every_variant_is_a_recipe_of_its_own(number: int) -> None:
    table = TABLES[number]
    task = load_manifest(table.datasets[0]).task
    recipes = [load_recipe(f"paper-{task}", variant.stage, variant.settings) for variant in table.variants]
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


def test_a_missing_store_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fusioncli caption --dataset msrs"):
        train_variants(7, None, (), runs=tmp_path, stores=tmp_path, datasets=("msrs",))


@pytest.mark.slow
def test_table_7_end_to_end_on_drawn_pairs(fusioncli: Run, tmp_path: Path) -> None:
    """Five minutes on a busy machine: it trains four tiny networks for two steps each and scores them."""
    assert fusioncli("data", "synth", "data/synthetic", "--pairs", "10").returncode == 0
    words = ("--dataset", "synthetic", "--root", "data", "--captioner", "measured", "--embedder", "hashing")
    assert fusioncli("caption", *words).returncode == 0
    words = ("--table", "7", "--dataset", "synthetic", "--root", "data", "--recipe", "tiny", "--set", "steps=2")
    done = fusioncli("bench", *words, "--metrics", "VIF,Qabf", "--no-cost", timeout=600)
    assert done.returncode == 0, done.stderr
    assert "base+feat+res" in done.stdout
    assert (tmp_path / "runs/table-7/synthetic/base-feat-res/model.safetensors").is_file()
