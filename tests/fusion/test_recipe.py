"""Recipes: both stages of every shipped one, inheritance, overrides, and errors that help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Run
from fusion.catalog import NETWORKS
from fusion.recipe import OPERATIONAL, build_recipe, change_recipe, load_recipe, recipe_names
from pipeline.errors import ManifestError


def test_the_paper_recipe_is_what_the_paper_states() -> None:
    teacher, student = (load_recipe("paper-ivf", stage) for stage in ("teacher", "student"))
    assert (teacher.network, student.network) == ("teacher", "student")
    assert (teacher.lr, teacher.weight_decay, teacher.batch_size, teacher.crop) == (1e-4, 1e-4, 4, 128)
    assert teacher.steps == 500 * 1083 // 4 + 25  # 500 epochs, the last one whole
    assert (teacher.weights, student.weights) == ("prior", "default")
    assert set(student.factors()) - set(teacher.factors()) == {"features", "output"}


STUDENTS_ONLY = {"edge", "edge-distilled", "edge-medical", "nano", "nano-distilled", "student-by-edge"}


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_every_shipped_recipe_resolves_to_a_known_network(name: str, stage: str) -> None:
    if stage == "teacher" and name in STUDENTS_ONLY:
        with pytest.raises(ManifestError, match="describes no teacher; use it with `fusioncli distill`"):
            load_recipe(name, stage)
        return
    recipe = load_recipe(name, stage)
    assert recipe.network in NETWORKS and recipe.factors()
    assert build_recipe(recipe.as_dict(), "again") == recipe  # what a run saves is enough to resume it


def test_a_network_without_fusion_modules_takes_none() -> None:
    with pytest.raises(ManifestError, match="fusion is 'concat', but the network edge has no such modules"):
        load_recipe("edge", "student", ["fusion=concat"])
    assert load_recipe("tiny", "student", ["fusion=concat"]).fusion == "concat"


def test_settings_come_last_and_are_read_as_yaml() -> None:
    recipe = load_recipe("tiny", "student", ["lr=1e-5", "steps=7", "trackers=[tensorboard]", "loss.features=0.5"])
    assert (recipe.lr, recipe.steps, recipe.trackers) == (1e-5, 7, ("tensorboard",))
    assert recipe.factors()["features"] == 0.5
    assert recipe.factors()["output"] == load_recipe("tiny", "student").factors()["output"]
    fixed = load_recipe("tiny", "teacher", ["weights={intensity: 24, ssim: 40, gradient: 48, colour: 12}"])
    assert fixed.weights == {"intensity": 24.0, "ssim": 40.0, "gradient": 48.0, "colour": 12.0}


def test_a_recipe_builds_on_another_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: tiny\nseed: 5\nstudent:\n  loss: {ssim: 0}\n")
    student, teacher = load_recipe(str(path), "student"), load_recipe(str(path), "teacher")
    assert (student.name, student.seed, teacher.seed) == ("mine", 5, 5)
    assert "ssim" not in student.factors() and "ssim" in teacher.factors()
    assert student.factors()["output"] == load_recipe("tiny", "student").factors()["output"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stepps=3", r"unknown key 'stepps' \(did you mean 'steps'\?\)"),
        ("loss.gradiant=1", r"no loss term 'gradiant' \(did you mean 'gradient'\?\)"),
        ("steps=many", r"steps: found 'many', expected a whole number"),
        ("steps=0", r"steps is 0, expected at least 1"),
        ("shares_every=0", r"shares_every is 0, expected at least 1"),
        ("workers=-1", r"workers is -1, expected at least 0"),
        ("weight_decay=-1", r"weight_decay is -1.0, expected at least 0"),
        ("explode=0", r"explode is 0.0, expected more than 1"),
        ("explode=.nan", r"explode is nan, expected more than 1"),
        ("pictures=-1", r"pictures is -1, expected at least 0"),
        ("loss.ssim=-1", r"loss: ssim is -1.0, expected a number of at least 0"),
        ("loss.output=.inf", r"loss: output is inf, expected a number of at least 0"),
        ("weights={ssim: .nan}", r"weights: ssim is nan, expected a number of at least 0"),
        ("fusion=outs", r"no fusion module 'outs' \(did you mean 'ours'\?\); expected"),
        ("clip=-1", r"clip is -1.0, expected at least 0"),
        ("final_lr=.nan", r"final_lr is nan, expected at least 0"),
        ("validation_crop=8", r"validation_crop is 8, expected at least 16"),
        ("seed=100000000000000000000", r"seed is 100000000000000000000, expected 0 to"),
        ("text=3", r"text: found 3, expected true or false"),
        ("precision=fp8", r"no precision 'fp8' \(did you mean 'fp32'\?\)"),
        ("batch_size=5", None),
        ("accumulation=3", r"cannot be cut into accumulation 3 equal parts"),
        ("crop=100000", r"crop is 100000, expected a multiple of 8 from 48 to 4096"),
        ("crop=50", r"crop is 50, expected a multiple of 8"),
        ("weights={inensity: 1}", r"unknown term 'inensity' \(did you mean 'intensity'\?\)"),
        ("weights=caption", r"weights 'caption'; expected prior, default"),
        ("lr", r"expected key=value"),
        ("lr=[", r"not valid YAML"),
    ],
)
def test_wrong_settings_say_what_was_expected(setting: str, message: str | None) -> None:
    if message is None:
        load_recipe("tiny", "teacher", [setting])
        return
    with pytest.raises(ManifestError, match=message):
        load_recipe("tiny", "teacher", [setting])


def test_unknown_recipes_and_circles_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no recipe 'tini' \(did you mean 'tiny'\?\)"):
        load_recipe("tini", "teacher")
    path = tmp_path / "loop.yaml"
    path.write_text(f"base: {path}\n")
    with pytest.raises(ManifestError, match="circle"):
        load_recipe(str(path), "teacher")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train-teacher", "--recipe", "edge"), "describes no teacher"),
        (("train-teacher", "--recipe", "tiny", "--set", "crop=100000"), "crop is 100000"),
        (("train-teacher", "--recipe", "tiny", "--minutes", "-1"), "--minutes -1: "),
        (("distill", "--recipe", "nano", "--teacher", "none", "--minutes", "nan"), "--minutes nan: "),
    ],
)
def test_a_training_that_cannot_be_leaves_no_run(
    fusioncli: Run, new_store: Callable[..., Path], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = fusioncli(*words, "--store", new_store(tmp_path, pairs=2), "--out", "run")
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists()


def test_a_loss_of_nothing_is_refused() -> None:
    nothing = [f"loss.{name}=0" for name in ("intensity", "consistency", "gradient", "ssim", "colour")]
    with pytest.raises(ManifestError, match="nothing is left to train on"):
        load_recipe("tiny", "teacher", nothing)


def test_a_resumed_run_may_change_only_what_changes_no_number() -> None:
    recipe = load_recipe("tiny", "teacher")
    assert change_recipe(recipe, ["workers=0", "checkpoint_every=7"]).checkpoint_every == 7
    with pytest.raises(ManifestError, match="a resumed run keeps its recipe"):
        change_recipe(recipe, ["lr=0.1"])
    with pytest.raises(ManifestError, match="did you mean 'workers'"):
        change_recipe(recipe, ["worker=1"])
    assert "seed" not in OPERATIONAL
