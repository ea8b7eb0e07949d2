"""A training run on disk: what it is made of (run.json), its log, and the model card of what comes out."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusion.recipe import Recipe, build_recipe
from pipeline.atomic import write_text
from pipeline.errors import InputError, StoreError, TrainingError
from pipeline.store import Store

RUN, LOG = "run.json", "log.jsonl"


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What resuming needs: the stage, the recipe, the stores with their digests, the teacher's weights."""

    stage: str
    recipe: Recipe
    stores: tuple[str, ...]
    store_digests: tuple[str, ...]
    teacher: str | None = None


def begin_run(folder: Path, plan: RunPlan, overwrite: bool = False) -> None:
    """Make the folder and write run.json. Raises InputError when a run is already there."""
    if (folder / RUN).exists():
        if not overwrite:
            raise InputError(
                f"{folder}: a run is already there; --resume {folder} continues it, --overwrite replaces it, --out chooses another"
            )
        shutil.rmtree(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty, and not a run; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    described = {**asdict(plan), "recipe": plan.recipe.as_dict(), "versions": versions(), "revision": revision()}
    write_text(folder / RUN, json.dumps(described, indent=2) + "\n")


def read_run(folder: Path) -> RunPlan:
    """run.json of a run. Raises InputError when there is none, StoreError when a store changed since."""
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        plan = RunPlan(
            stage=raw["stage"],
            recipe=build_recipe(raw["recipe"]),
            stores=tuple(raw["stores"]),
            store_digests=tuple(raw["store_digests"]),
            teacher=raw["teacher"],
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error})") from error
    for location, digest in zip(plan.stores, plan.store_digests, strict=True):
        found = Store.open(location).digest()
        if found != digest:
            raise StoreError(
                f"{location}: the store's digest was {digest[:12]}… when the run began, now it is {found[:12]}…"
            )
    return plan


def cut_log(path: Path, step: int) -> None:
    """Drop the lines after ``step``: they will be written again."""
    if not path.is_file():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
    write_text(path, "".join(f"{line}\n" for line in lines))


def append_log(path: Path, entry: Mapping[str, Any]) -> None:
    """One JSON object a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def model_card(plan: RunPlan, parameters: int, datasets: Sequence[str], validation: Mapping[str, float]) -> str:
    """README.md of a run: what the network is, what it saw, what it scored on held-out training pairs."""
    recipe = plan.recipe
    scores = ", ".join(f"{name} {value:.4f}" for name, value in validation.items()) or "none was measured"
    taught = f" Distilled from `{Path(plan.teacher).name}`." if plan.teacher else ""
    return (
        "---\nlibrary_name: fusioncli\ntags: [image-fusion]\n---\n\n"
        f"# {recipe.network}: image fusion {plan.stage}\n\n"
        f"{parameters:,} parameters, recipe `{recipe.name}`, {recipe.steps} steps of {recipe.batch_size} crops of "
        f"{recipe.crop} pixels, seed {recipe.seed}.{taught}\n\n"
        f"**Data.** The `train` split of {', '.join(datasets)}; {recipe.validation_pairs} pairs of it at most were held out for "
        "validation. No test split was read.\n\n"
        f"**Validation** (centre crops of the held-out training pairs, convention `standard`): {scores}.\n\n"
        "**Use.** `fusioncli fuse VISIBLE INFRARED --out FUSED --weights THIS_FOLDER`\n\n"
        "**Limits.** Both images must be aligned and of one size. Fused images are made to be looked at and to feed "
        "detectors; they are not measurements, and not for diagnosis.\n"
    )


def versions() -> dict[str, str]:
    """The versions that decide the numbers."""
    import numpy
    import torch

    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": numpy.__version__}


def revision() -> str | None:
    """The git revision of the code, if it runs from a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{LOG}: a line is damaged: {line[:80]!r}") from error
