"""A whole benchmark: data sets, methods, scores, and the files that come out of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fusion.bench_extras import ceilings, check_ceiling, published, section
from fusion.benchmark import BenchSet, machine, methods_for, pairs_to_score, run_bench
from fusion.devices import device_named
from fusion.downstream import detection_task, detections, segmentation_task, segmentations
from fusion.image_memory import fuse_once
from fusion.methods import Pixels
from fusion.metrics import COLOUR_NAMES
from fusion.report.gallery import Shot, choose
from fusion.report.page import write_page
from fusion.report.section import Section
from fusion.report.sheet import PAIRS, PAIRS_A_PAGE, Row, check_sheet, columns, write_sheet
from fusion.results import BenchResult, DatasetResult, ExtraTable
from fusion.run_lock import hold
from fusion.score import convention_named, known_names
from fusion.tables import csv_table, latex_table, markdown_table
from fusion.targets import check_boxes, labels_beside
from pipeline.atomic import write_text
from pipeline.console import progress
from pipeline.errors import InputError
from pipeline.image_folder import images_in
from pipeline.manifest import Manifest, load_manifest
from pipeline.pairs import Pair, data_root, evenly_spaced, pair_size, read_pair
from pipeline.words import listed

MOST_SHOTS = 12  # pairs in the gallery, over all data sets
RESULT, PAGE = "bench.json", "index.html"
TABLES = ("images.csv", "table.md", "table.tex")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What ``fusioncli bench`` was asked for."""

    datasets: tuple[str, ...]
    root: Path | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    out: Path = Path("bench")
    split: str | None = None
    limit: int | None = None
    convention: str = "standard"
    metrics: tuple[str, ...] | None = None
    boxes: Path | None = None
    device: str | None = None
    runs: Path = Path("runs")
    stores: Path = Path("stores")
    allow_missing: bool = False
    cost: bool = True
    command: str = "fusioncli bench"
    published: bool = False
    published_tables: tuple[str, ...] = ("1", "2")
    ceiling: int = 0
    detector: str | None = None
    predictions: Mapping[str, str] = field(default_factory=dict)
    labels: Path | None = None
    segmenter: str | None = None
    masks: Mapping[str, str] = field(default_factory=dict)
    mask_labels: Path | None = None
    mask_classes: tuple[str, ...] = ()
    sheet: Path | None = None


TableMaker = Callable[[Sequence[DatasetResult]], list[ExtraTable]]


@dataclass(frozen=True, kw_only=True)
class PageExtras:
    """What else a page shows: its title, its own place, sections around the scores, sentences about pairs by key."""

    title: str
    path: Path
    first: tuple[Section, ...] = ()
    last: tuple[Section, ...] = ()
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def run_all(options: BenchOptions, extras: PageExtras | None = None) -> BenchResult:
    """Score everything, write the page and the tables under ``options.out``, and return the result."""
    check_place(options.out)
    sets = bench_sets(options)
    device = str(device_named(options.device))
    make_tables = extra_tables(options, sets, device)
    make_folder(options.out)
    lock = hold(options.out, "writing a benchmark there")
    try:
        return _score_all(options, sets, device, make_tables, extras)
    finally:
        lock.release()


def _score_all(
    options: BenchOptions, sets: Sequence[BenchSet], device: str, make_tables: TableMaker, extras: PageExtras | None
) -> BenchResult:
    found = [
        run_bench(
            one,
            out=options.out,
            convention=options.convention,
            names=options.metrics,
            with_cost=options.cost,
            device=device,
        )
        for one in sets
    ]
    tables = make_tables(found)
    result = BenchResult(datasets=tuple(found), machine=machine(), command=options.command, tables=tuple(tables))
    write_tables(result, options.out)
    most = max(4, MOST_SHOTS // len(sets))
    extras = extras or PageExtras(title="Fusion benchmark", path=options.out / PAGE)
    shots = [
        shot
        for one, scores in zip(sets, found, strict=True)
        for shot in take_shots(one, scores, options.out, most, extras.notes)
    ]
    write_page(
        extras.path, result, shots, title=extras.title, first=extras.first, last=(*map(section, tables), *extras.last)
    )
    if options.sheet is not None:
        for one, scores in zip(sets, found, strict=True):
            contact_sheet(one, scores, options.out, options.sheet)
    return result


def contact_sheet(bench: BenchSet, result: DatasetResult, out: Path, path: Path) -> list[Path]:
    """The fixed pairs of a data set on pages beside ``path``: sources, networks and folders, crops at 200 %."""
    chosen = evenly_spaced(len(bench.pairs), PAIRS)
    shown = columns(result.methods)
    rows = []
    with progress() as bar:
        task = bar.add_task(f"sheet of {bench.manifest.name}", total=len(chosen) + -(-len(chosen) // PAIRS_A_PAGE))
        for index in chosen:
            pictures = pictures_of(bench, bench.pairs[index], out, shown)
            rows.append(
                Row(
                    name=f"{bench.manifest.name} {bench.pairs[index].stem}",
                    visible=pictures["visible"],
                    infrared=pictures["infrared"],
                    pictures={result.methods[name].title: pictures.get(name) for name in shown},
                )
            )
            bar.advance(task)
        return write_sheet(path, bench.manifest.name, rows, lambda: bar.advance(task))


def bench_sets(options: BenchOptions) -> list[BenchSet]:
    """Pairs and methods of every data set; all input is checked here, before anything is computed."""
    metrics = known_names(convention_named(options.convention), options.metrics)
    if options.sheet is not None:
        check_sheet(options.sheet)
    device = str(device_named(options.device))
    manifests = [load_manifest(name) for name in options.datasets]
    root = data_root(options.root)
    sets = []
    for manifest in manifests:
        split, pairs = pairs_to_score(manifest, root, options.split, options.limit)
        known = stems_of(manifest, root) if options.methods else frozenset()
        methods = methods_for(
            manifest,
            pairs,
            dict(options.methods),
            runs=options.runs,
            stores=options.stores,
            device=device,
            allow_missing=options.allow_missing,
            known=known,
            colour=bool(COLOUR_NAMES & set(metrics)),
        )
        boxes = options.boxes or labels_beside(root / manifest.folder, split)
        check_pairs(pairs, boxes)
        sets.append(
            BenchSet(
                manifest=manifest,
                split=split,
                pairs=tuple(pairs),
                methods=tuple(methods),
                boxes=boxes,
                whole=options.limit is None,
            )
        )
    return sets


def check_pairs(pairs: Sequence[Pair], boxes: Path | None) -> None:
    """Read all headers, then all label files where there are any; one InputError for all that do not fit."""
    problems: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    for pair in pairs:
        try:
            sizes[pair.stem] = pair_size(pair)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(problems[0] if len(problems) == 1 else listed(problems))
    if boxes is not None:
        check_boxes(boxes, sizes)


def stems_of(manifest: Manifest, root: Path) -> frozenset[str]:
    """Stems of the images that are there, whichever splits are: a folder of fused images may hold all of them."""
    folders = {root / manifest.folder / split.folders[manifest.names[0]] for split in manifest.splits.values()}
    return frozenset(stem for folder in folders if folder.is_dir() for stem in images_in(folder))


def extra_tables(options: BenchOptions, sets: Sequence[BenchSet], device: str) -> TableMaker:
    """What makes the tables that were asked for beside the scores; all they need is read and checked here and now."""
    if options.ceiling:
        metrics = known_names(convention_named(options.convention), options.metrics)
        check_ceiling(options.convention, metrics, sets, options.ceiling)
    detection = detection_task(
        sets,
        data_root(options.root),
        detector=options.detector,
        predictions=options.predictions,
        labels=options.labels,
        device=device,
        allow_missing=options.allow_missing,
    )
    segmentation = segmentation_task(
        sets,
        segmenter=options.segmenter,
        masks=options.masks,
        labels=options.mask_labels,
        names=options.mask_classes,
        device=device,
        allow_missing=options.allow_missing,
    )

    def make(found: Sequence[DatasetResult]) -> list[ExtraTable]:
        tables = published(found, options.published_tables) if options.published else []
        for one, scores in zip(sets, found, strict=True):
            if options.ceiling:
                tables.append(ceilings(one, scores, options.ceiling))
            if detection:
                tables.append(detections(one, options.out, detection))
            if segmentation:
                tables.append(segmentations(one, options.out, segmentation))
        return tables

    return make


def check_place(folder: Path) -> None:
    """Raises InputError where files that a benchmark did not make have the names of what it writes."""
    taken = [name for name in (PAGE, *TABLES) if (folder / name).exists()]
    if taken and not (folder / RESULT).is_file():
        raise InputError(f"{folder}: holds {', '.join(taken)}, made by no benchmark; choose another --out")


def make_folder(folder: Path) -> None:
    """Create ``folder``; InputError when a file is in its way."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file where a folder for the results was expected; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)


def write_tables(result: BenchResult, out: Path) -> None:
    """bench.json, images.csv, table.md and table.tex."""
    write_text(out / RESULT, json.dumps(result.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    texts = (
        csv_table(result.datasets),
        "\n".join(markdown_table(dataset) for dataset in result.datasets),
        "\n".join(latex_table(dataset) for dataset in result.datasets),
    )
    for name, text in zip(TABLES, texts, strict=True):
        write_text(out / name, text)


def take_shots(
    bench: BenchSet, result: DatasetResult, out: Path, most: int, notes: Mapping[str, Sequence[str]] | None = None
) -> list[Shot]:
    """The chosen pairs with every method's picture; what networks made is read back from ``out``."""
    by_key = {pair.key: pair for pair in bench.pairs}
    shots = []
    for key, why in choose(result, most).items():
        pictures = pictures_of(bench, by_key[key], out)
        noted = tuple((notes or {}).get(key, ()))
        shots.append(Shot(dataset=result.name, key=key, why=tuple(why), pictures=pictures, notes=noted))
    return shots


def pictures_of(bench: BenchSet, pair: Pair, out: Path, names: Sequence[str] | None = None) -> dict[str, Pixels]:
    """Both sources and the pictures of methods, all of them or ``names``, as far as they are there."""
    visible, infrared = read_pair(pair, bench.manifest.channels)
    pictures = {"visible": visible.eight_bit(), "infrared": infrared.eight_bit(grey=True)}
    for method in bench.methods:
        name = method.card.name
        if name not in pictures and (names is None or name in names):
            fused = fuse_once(method, pair, visible, infrared, out / "fused" / bench.manifest.name)
            if fused is not None:
                pictures[name] = fused
    return pictures
