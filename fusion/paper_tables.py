"""The paper's seven tables as work to do: which variants to train, from which recipe, and on what to score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.recipe import Recipe, load_recipe
from fusion.run import ORIGIN, read_origin
from fusion.training import resume_run, start_run
from pipeline.console import note
from pipeline.errors import InputError
from pipeline.manifest import load_manifest

INFRARED = ("msrs", "m3fd", "roadscene")
MEDICAL = ("harvard-ct-mri", "harvard-pet-mri", "harvard-spect-mri")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row to train: ``recipe`` over the table's own ("": as it is); ``teacher`` is the variant it is distilled from."""

    name: str
    stage: str
    recipe: str = ""
    teacher: str | None = None


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table: trained on ``trained`` ("" for each data set itself), scored on ``datasets``."""

    datasets: tuple[str, ...]
    trained: str
    variants: tuple[Variant, ...]


TEACHER = Variant(name="teacher", stage="teacher")
STUDENT = Variant(name="student", stage="student", teacher="teacher")


def _teacher(name: str, recipe: str) -> Variant:
    return Variant(name=name, stage="teacher", recipe=recipe)


def _student(name: str, recipe: str) -> Variant:
    return Variant(name=name, stage="student", recipe=recipe, teacher="teacher")


TABLES: dict[int, PaperTable] = {
    1: PaperTable(datasets=INFRARED, trained="msrs", variants=(TEACHER, STUDENT)),
    2: PaperTable(datasets=MEDICAL, trained="", variants=(TEACHER, STUDENT)),
    3: PaperTable(
        datasets=("msrs",),
        trained="msrs",
        variants=(_teacher("teacher without text", "no-text"), TEACHER, STUDENT),
    ),
    4: PaperTable(
        datasets=("msrs",),
        trained="msrs",
        variants=(
            TEACHER,
            _student("int", "loss-int"),
            _student("int+color", "loss-int-color"),
            _student("int+grad+ssim", "loss-int-grad-ssim"),
            _student("int+color+grad", "loss-int-color-grad"),
            _student("color+grad+ssim", "loss-color-grad-ssim"),
            _student("color+grad+ssim+int", "loss-all"),
        ),
    ),
    5: PaperTable(
        datasets=("msrs",),
        trained="msrs",
        variants=(
            _teacher("cat and 1x1 conv", "fusion-concat"),
            _teacher("unlearned weight attention", "fusion-fixed"),
            _teacher("dynamic weight conv", "fusion-dynamic"),
            _teacher("multiscale conv", "fusion-multiscale"),
            _teacher("ours", "fusion-ours"),
        ),
    ),
    6: PaperTable(
        datasets=("msrs",),
        trained="msrs",
        variants=(
            TEACHER,
            _student("student d48", "student-d48"),
            _student("student d32", "student-d32"),
            _student("student d16", "student-d16"),
        ),
    ),
    7: PaperTable(
        datasets=("msrs",),
        trained="msrs",
        variants=(
            TEACHER,
            _student("base", "distill-base"),
            _student("base+res", "distill-base-res"),
            _student("base+feat+res", "distill-base-feat-res"),
        ),
    ),
}


def paper_datasets(number: int) -> tuple[str, ...]:
    """The data sets that the paper's table ``number`` is about."""
    return TABLES[number].datasets


def train_variants(
    number: int,
    recipe: str | None,
    settings: Sequence[str],
    *,
    runs: Path,
    stores: Path,
    datasets: Sequence[str],
) -> dict[str, str]:
    """Train, or finish, every variant of a table; returns name -> run folder.

    Runs go to ``runs/table-N/<store>/<variant>`` and are resumed where they stopped. ``{dataset}`` in a returned path
    stands for the data set that is scored, where each has networks of its own. Raises InputError when a store is missing.
    """
    table = TABLES[number]
    sources = tuple(datasets) if not table.trained or tuple(datasets) != table.datasets else (table.trained,)
    absent = [name for name in sources if not (stores / name / "store.json").is_file()]
    if absent:
        raise InputError(
            f"--table {number} trains on {', '.join(str(stores / name) for name in absent)}, which is not there; make it "
            f"with `fusioncli caption --dataset {absent[0]}`"
        )
    home = runs / f"table-{number}"
    for source in sources:
        for variant in table.variants:
            _train(variant, recipe, settings, stores / source, home / source, load_manifest(source).task)
    place = home / (sources[0] if len(sources) == 1 else "{dataset}")
    return {variant.name: str(place / _folder(variant.name)) for variant in table.variants}


def resolve(variant: Variant, base: str, settings: Sequence[str] = ()) -> Recipe:
    """What ``variant`` is trained by when the table is built on the recipe ``base``."""
    if not variant.recipe:
        return load_recipe(base, variant.stage, settings)
    return load_recipe(variant.recipe, variant.stage, settings, base=base)


def _train(variant: Variant, recipe: str | None, settings: Sequence[str], store: Path, home: Path, task: str) -> None:
    out = home / _folder(variant.name)
    teacher = home / _folder(variant.teacher) if variant.teacher else None
    wanted = resolve(variant, recipe or f"paper-{task}", settings)
    note(f"{variant.name} ({store.name}): {wanted.network}, {wanted.steps} steps")
    if (out / ORIGIN).is_file():
        if read_origin(out).recipe != wanted:
            raise InputError(f"{out}: was trained with another recipe; move it away, or choose another --runs folder")
        resume_run(out)
    else:
        start_run(wanted, [store], out, teachers=[teacher] if teacher else [])


def _folder(name: str) -> str:
    return name.replace(" ", "-").replace("+", "-")
