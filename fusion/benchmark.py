"""The benchmark: every method on every pair of a data set, whole images at their own size, under one convention."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fusion.cost_memory import measure_costs
from fusion.default_weights import shipped_for
from fusion.fused_folder import FolderMethod, is_folder_of_images
from fusion.image_memory import fuse_once, is_kept
from fusion.methods import (
    Method,
    NetworkMethod,
    Pixels,
    baseline_methods,
    stored_texts,
)
from fusion.metrics import METRICS
from fusion.results import Cost, DatasetResult
from fusion.score import Scores, convention_named, known_names, one_thread
from fusion.score_memory import ScoreMemory
from fusion.scoring import workers_on
from fusion.targets import TARGET_NAMES, boxes_of
from fusion.text_space import check_reads
from fusion.weights import CONFIG
from pipeline.console import note, progress
from pipeline.errors import InputError
from pipeline.manifest import Manifest
from pipeline.pairs import Pair, evenly_spaced, find_pairs, read_pair
from pipeline.store import Store
from pipeline.words import counted

LONGEST_NAME = 200  # bytes
FEW_MINUTES = 600  # seconds; a method that takes longer is announced before it starts


@dataclass(frozen=True, kw_only=True)
class BenchSet:
    """One data set to benchmark: its pairs and the methods, in the table's order."""

    manifest: Manifest
    split: str
    pairs: tuple[Pair, ...]
    methods: tuple[Method, ...]
    boxes: Path | None = None  # label files by stem: targets are scored too
    whole: bool = True  # whether these are all pairs of the split


def pairs_to_score(
    manifest: Manifest, root: Path, split: str | None = None, limit: int | None = None
) -> tuple[str, list[Pair]]:
    """The pairs to score: split ``test`` where there is one, else all of them; ``limit`` takes them evenly spaced."""
    if split is None:
        split = "test" if "test" in manifest.splits else "all"
    if split != "all" and split not in manifest.splits:
        raise InputError(f"{manifest.name} has no split {split!r}; it has {', '.join(manifest.splits)} (or all)")
    pairs = list(find_pairs(manifest, root, None if split == "all" else {split}))
    if limit is not None:
        pairs = [pairs[index] for index in evenly_spaced(len(pairs), limit)]
    return split, pairs


def methods_for(
    manifest: Manifest,
    pairs: Sequence[Pair],
    given: dict[str, str],
    *,
    runs: Path,
    stores: Path,
    device: str,
    allow_missing: bool = False,
    known: frozenset[str] = frozenset(),
    colour: bool = False,
) -> list[Method]:
    """The given methods, or else the data set's own runs and the shipped weights for its task; the baselines always.

    A folder may hold a subfolder of the data set's name; its images must be coloured with ``colour``. A teacher gets its
    texts from ``stores/<dataset>``. Raises InputError: a name that cannot be one, no such store, and as FolderMethod does.
    """
    dataset = manifest.name
    chosen = {name: source.replace("{dataset}", dataset) for name, source in given.items()}
    methods = baseline_methods(manifest.names)
    taken = {name for method in methods for name in (method.card.name, method.card.title)}
    for name, source in (chosen or _usual_networks(manifest, runs, device)).items():
        if name in (".", "..") or "/" in name or "\\" in name:
            raise InputError(f"--method {name}={source}: a name is also that of a folder of images; leave out / and \\")
        if not name.strip() or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
            raise InputError(
                f"--method {name!r}={source}: a name is 1 to {LONGEST_NAME} bytes of letters that can be printed"
            )
        if name in taken:
            raise InputError(f"--method {name}={source}: {name!r} is a baseline's name; choose another")
        inner = Path(source) / dataset
        folder = inner if is_folder_of_images(inner) else Path(source)
        if is_folder_of_images(folder):
            methods.append(FolderMethod(name, folder, pairs, allow_missing=allow_missing, known=known, colour=colour))
        else:
            methods.append(_network(name, source, device, stores / dataset, pairs))
    return methods


def _usual_networks(manifest: Manifest, runs: Path, device: str) -> dict[str, str]:
    """The data set's own runs, and the shipped weights for its task, by name."""
    own = {stage: runs / f"{manifest.name}-{stage}" for stage in ("teacher", "student")}
    found = {stage: str(run) for stage, run in own.items() if (run / CONFIG).is_file()}
    shipped = shipped_for(manifest.task, accelerator=device != "cpu")
    return found | {f"shipped {name}" if name in found else name: name for name in shipped}


def _network(name: str, source: str, device: str, store: Path, pairs: Sequence[Pair]) -> NetworkMethod:
    """A network with its weights; a teacher with the texts of ``store``, in the prior it was trained with.

    Raises InputError where there are none, and WeightsError where they are of another embedder.
    """
    method = NetworkMethod(name, source, device=device)
    if method.takes_text:
        if not (store / "store.json").is_file():
            raise InputError(
                f"{name}: this network reads a text on each pair, and there is no store {store}; make it with "
                f"`fusioncli caption --dataset {store.name}`, or name the folder of stores with --stores"
            )
        texts = f"{store}, prior {method.prior}"
        check_reads(method.weights, Store.open(store).fingerprint(method.prior)["embedder"], texts)
        method.give_texts(stored_texts(store, method.prior), texts, pairs)
    return method


def run_bench(
    bench: BenchSet,
    *,
    out: Path,
    convention: str = "standard",
    names: Sequence[str] | None = None,
    with_cost: bool = True,
    device: str = "cpu",
) -> DatasetResult:
    """Score every method on every pair. Fused images of networks and all scores are kept under ``out``.

    A second run reads what has not changed: images by the weights' digest, scores by the digest of all three images, or
    of both sources and the method where the method says what decides its images.
    """
    computed = known_names(convention_named(convention), names)
    metrics = (*computed, *(TARGET_NAMES if bench.boxes else ()))
    cards = {method.card.name: method.card for method in bench.methods}
    if with_cost:
        costs = measure_costs(bench.methods, cache_file=out / "costs.json", device=device)
        cards = {name: replace(card, cost=costs.get(name)) for name, card in cards.items()}
    announce_slow(bench, {name: card.cost for name, card in cards.items()})
    scores = ScoreMemory(out / "scores" / f"{bench.manifest.name}.json", convention, computed)
    found = _score_pairs(bench, scores, out / "fused" / bench.manifest.name, device)
    values = {
        name: {metric: [pair.get(name, {}).get(metric) for pair in found] for metric in metrics} for name in cards
    }
    missing = {name: sum(name not in pair for pair in found) for name in cards}
    return DatasetResult(
        name=bench.manifest.name,
        title=bench.manifest.title,
        task=bench.manifest.task,
        split=bench.split,
        modalities=bench.manifest.names,
        convention=convention,
        digest=bench.manifest.digest,
        keys=tuple(pair.key for pair in bench.pairs),
        metrics=metrics,
        better=directions(metrics),
        methods=cards,
        values=values,
        missing={name: count for name, count in missing.items() if count},
    )


def _score_pairs(bench: BenchSet, scores: ScoreMemory, folder: Path, device: str) -> list[dict[str, Scores]]:
    """The scores of every pair by method; a method that has no image of a pair is left out there.

    The images of networks are kept in ``folder``. The scores are saved after every pair, and when the pool has ended: one
    still being made at an interruption is kept too.
    """
    methods = {method.card.name: method for method in bench.methods}
    identities = {name: method.identity for name, method in methods.items()}
    by_pair = []
    with progress("doing") as bar, ExitStack() as stack, ThreadPoolExecutor(workers_on(device)) as pool:
        task = bar.add_task(bench.manifest.name, total=len(bench.pairs) * len(bench.methods), doing="")
        stack.callback(scores.save)
        for pair in bench.pairs:
            visible, infrared = read_pair(pair, bench.manifest.channels)
            boxes = boxes_of(bench.boxes, pair.stem, visible.size) if bench.boxes else None
            scores.sources(visible.eight_bit(), infrared.eight_bit(grey=True), device, boxes)
            found: dict[str, Scores] = {}
            fused: dict[str, Pixels] = {}
            for name, identity in identities.items():
                bar.update(task, doing=f"{pair.stem} {name}")
                known = scores.remembered(identity)
                if known is None or not is_kept(methods[name], pair, folder):
                    picture = fuse_once(methods[name], pair, visible, infrared, folder)
                    if known is None and picture is not None:
                        fused[name] = picture
                if known is not None:
                    found[name] = known
                bar.advance(task)
            bar.update(task, doing=f"{pair.stem} scores")
            with one_thread():
                fresh = pool.map(scores.of, fused.values(), (identities[name] for name in fused))
                found.update(zip(fused, fresh, strict=True))
            by_pair.append(found)
            if fused:
                scores.save()  # a process killed at any moment loses no pair but this one
        if bench.whole:
            scores.forget()
    return by_pair


def directions(metrics: Sequence[str]) -> dict[str, str | None]:
    """Which way is better, by metric."""
    return {name: METRICS[name].better if name in METRICS else "higher" for name in metrics}


def announce_slow(bench: BenchSet, costs: dict[str, Cost | None]) -> None:
    """Say before it starts which method will take more than ten minutes."""
    for name, cost in costs.items():
        seconds = len(bench.pairs) * cost.latency_ms / 1e3 if cost else 0.0
        if seconds > FEW_MINUTES:
            note(
                f"{name}: about {seconds / 60:.0f} minutes for {counted(len(bench.pairs), 'pair')} of 640 x 480 on this machine; "
                "--limit N takes fewer pairs, and an interrupted run goes on where it stopped"
            )


def machine() -> dict[str, str]:
    """The hardware and software that gave the numbers."""
    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), processor)
    described = {
        "processor": processor,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        described["accelerator"] = torch.cuda.get_device_name()
    return described
