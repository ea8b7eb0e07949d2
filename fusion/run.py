"""A training run on disk: what it was started with, its log, and the card of what came out."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from fusion.averaging import Average
from fusion.checkpoints import FOLDER
from fusion.recipe import Recipe, build_recipe
from fusion.weights import CARD, CONFIG, MODEL, Weights, load_weights, save_weights
from pipeline.atomic import write_text
from pipeline.errors import InputError, StoreError, TrainingError, WeightsError
from pipeline.store import Store

ORIGIN = "training.json"
LOG = "log.jsonl"
BEST_SO_FAR = "best"  # the folder, within a run, of the weights that validated best
FORMAT = 2
PACKAGES = ("torch", "accelerate", "numpy", "safetensors", "fusioncli")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """``training.json``: everything a run was started with, enough to resume it."""

    recipe: Recipe
    stores: tuple[dict[str, Any], ...]
    teachers: tuple[dict[str, str], ...]  # none, one for all stores, or one for each
    versions: dict[str, str]
    revision: str | None
    start: dict[str, str] | None = None  # the weights it went on from; None: fresh ones

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": FORMAT,
            "stage": self.recipe.stage,
            "recipe": self.recipe.as_dict(),
            "stores": list(self.stores),
            "teachers": list(self.teachers),
            "start": self.start,
            "versions": self.versions,
            "revision": self.revision,
        }


def describe_store(store: Store, prior: str) -> dict[str, Any]:
    """Where a store is and what decides its training content: the plan and one prior (others may be added later)."""
    content = hashlib.sha256(store.header.plan_digest.encode())
    content.update(json.dumps(store.fingerprint(prior), sort_keys=True).encode())
    for shard in store.finished(prior):
        content.update(json.dumps(store.marker(prior, shard), sort_keys=True).encode())
    local = Path(store.name)
    return {
        "location": str(local.resolve()) if local.exists() else store.name,
        "dataset": store.header.dataset,
        "task": store.header.task,
        "prior": prior,
        "embedder": store.fingerprint(prior)["embedder"],
        "content": content.hexdigest(),
        "digest": store.digest(),
    }


def describe_weights(weights: Weights) -> dict[str, str]:
    """Where weights are, and the SHA-256 of their tensors."""
    local = Path(weights.name)
    return {"location": str(local.resolve()) if local.exists() else weights.name, "sha256": weights.sha256}


def check_folder(run: Path, given: Sequence[Weights], *, overwrite: bool) -> None:
    """Raise InputError where ``run`` holds the weights that the new run is given or, unless ``overwrite``, others or a run."""
    if run.exists() and not run.is_dir():
        raise InputError(f"--out {run}: a file is in the way; choose another folder")
    if (run / ORIGIN).exists() and not overwrite:
        raise InputError(
            f"{run} already holds a run; --resume {run} goes on with it, --overwrite replaces it, --out takes another folder"
        )
    own = {run.resolve(), run.resolve() / "best"}
    for weights in given:
        if Path(weights.name).exists() and Path(weights.name).resolve() in own:
            raise InputError(
                f"--out {run}: the new run would replace the weights it is given, {weights.name}; choose another --out"
            )
    taken = [name for name in (MODEL, CARD, CONFIG, LOG) if (run / name).exists()]
    if taken and not (run / ORIGIN).exists() and not overwrite:
        raise InputError(
            f"--out {run}: holds {', '.join(taken)}, made by no training; choose another folder, or --overwrite replaces them"
        )


def clear_folder(run: Path) -> None:
    """Remove what another run wrote, and only that."""
    for name in (FOLDER, "pictures", "best"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (ORIGIN, LOG, CONFIG, MODEL, CARD):
        (run / name).unlink(missing_ok=True)


def write_origin(run: Path, origin: Origin) -> None:
    """Write ``training.json``."""
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / ORIGIN, json.dumps(origin.as_dict(), indent=2, ensure_ascii=False) + "\n")


def read_origin(run: Path) -> Origin:
    """Read ``training.json``. Raises InputError where there is no run, TrainingError for a damaged one or another format."""
    path = run / ORIGIN
    if not path.is_file():
        raise InputError(f"{run}: no training run here (no {ORIGIN})")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise TrainingError(f"{path}: run format {raw.get('format')!r}, this version reads {FORMAT}")
        return Origin(
            recipe=build_recipe(raw["recipe"], str(path)),
            stores=tuple(raw["stores"]),
            teachers=tuple(raw["teachers"]),
            versions=raw["versions"],
            revision=raw["revision"],
            start=raw.get("start"),
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise TrainingError(f"{path}: damaged ({error}); start the run again with --out") from error


def check_store(saved: Mapping[str, Any], store: Store) -> None:
    """Raise StoreError when a store is no longer what the run was started with."""
    now = describe_store(store, saved["prior"])
    if now["content"] != saved["content"]:
        raise StoreError(
            f"{saved['location']}: its plan or prior {saved['prior']!r} is not the one this run was started with "
            f"(content {now['content'][:12]}…, the run has {saved['content'][:12]}…); restore it or start a new run"
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The git revision of this program's source, with "+" for local changes; None where it is not a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() or None if head.returncode == 0 else None


class Log:
    """``log.jsonl``: one JSON object a line. Opened for a resumed run it forgets what came after the checkpoint."""

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / LOG
        kept = [line for line in self._lines() if _step(line) <= step] if step else []
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _lines(self) -> list[str]:
        return self.path.read_text(encoding="utf-8", errors="replace").split("\n") if self.path.is_file() else []


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the half line of a killed run


def read_log(run: Path) -> list[dict[str, Any]]:
    """All records of a run's log, without the half line of one that was killed."""
    lines = (run / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    return [json.loads(line) for line in lines if _step(line) < float("inf")]


def model_card(origin: Origin, step: int, parameters: int, metrics: Mapping[str, float], pairs: Sequence[int]) -> str:
    """The README.md of a run: what it is, what it was trained on, how, and what came out, with its limits."""
    recipe = origin.recipe
    stores = "\n".join(
        f"- {store['dataset']} ({number} training pairs of the split `train`; prior `{store['prior']}`; store "
        f"`{store['digest'][:16]}`)"
        for store, number in zip(origin.stores, pairs, strict=True)
    )
    table = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    taught = " and ".join(f"`{teacher['sha256'][:16]}`" for teacher in origin.teachers)
    teacher = f"Distilled from the weights {taught}." if taught else ""
    factors = ", ".join(f"{name} {value:g}" for name, value in recipe.factors().items())
    return f"""---
library_name: fusioncli
pipeline_tag: image-to-image
license: other
license_name: terms-of-the-training-images
tags: [image-fusion, {origin.stores[0]["task"]}, {recipe.stage}]
---
# {recipe.network}, recipe {recipe.name} ({recipe.stage})

An image fusion network of {parameters:,} parameters, after {step} of {recipe.steps} steps. {teacher}
Inputs: visible (or CT, PET, SPECT) in colour and infrared (or MRI) in grey, registered and of one size. Output: colour.

    fusioncli fuse VISIBLE INFRARED --out fused.png --weights THIS_FOLDER

In Python `fusion.Fuser.from_pretrained("THIS_FOLDER")(visible, infrared)`. For looking at fused pictures and for programs that read them;
not for diagnosis, nor where a person's safety hangs on what is or is not seen.

## Data
{stores}

A validation slice of the train split was held out by content; no test split was read.

## Training
AdamW, learning rate {recipe.lr:g} to {recipe.final_lr:g} (cosine), batch {recipe.batch_size}, crops of {recipe.crop} pixels,
seed {recipe.seed}, precision {recipe.precision}, average decay {recipe.ema:g}; loss weights: {recipe.weights};
loss terms and factors: {factors}.
Every setting, version and digest is in `{ORIGIN}`; every logged step in `{LOG}`.

## Validation
Means over the held-out pairs' middles (at most {recipe.validation_crop} pixels), standard metric convention.

| measure | value |
|---|---|
{table}

## Limits
Trained on few scenes; look at the pictures before relying on them. Sources that are not registered give ghosts. The
terms of the data sets named above apply to what is made from them.
"""


def write_model(
    folder: Path,
    origin: Origin,
    network: nn.Module,
    average: Average,
    step: int,
    metrics: dict[str, float],
    pairs: list[int],
) -> None:
    """Weights, config and card of the averaged network."""
    state = {**network.state_dict(), **average.shadow}
    parameters = sum(value.numel() for value in average.shadow.values())
    extra = {"step": step, "metrics": metrics, "training": origin.as_dict()}
    save_weights(folder, network, model_card(origin, step, parameters, metrics, pairs), extra, state)


def model_step(folder: Path) -> int | None:
    """How many steps the weights in a run's folder have; None where there are none, or damaged ones."""
    try:
        return load_weights(folder).config.get("step")
    except WeightsError:
        return None
