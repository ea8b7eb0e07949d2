"""``fusioncli bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    dataset: Annotated[list[str] | None, typer.Option(help="Data set to score; repeat it for several.")] = None,
    root: Annotated[Path | None, typer.Option(help="Data root; else FUSIONCLI_DATA, else data/.")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: a run, weights (folder, shipped name, Hub id) or a folder of fused images."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the tables and the fused images.")] = Path("bench"),
    split: Annotated[str | None, typer.Option(help="Split to score; else test where there is one, else all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only N evenly spaced pairs.")] = None,
    convention: Annotated[str, typer.Option(help="How the metrics count; see `fusioncli score --help`.")] = "standard",
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas between; 'usual' (the default thirteen) and 'all' count as names."),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="Label files (stem.txt): what targets keep. Else the data set's det_labels, if it has any."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; else the GPU if there is one.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of runs, searched when no method is given.")] = Path("runs"),
    stores: Annotated[Path, typer.Option(help="Folder of stores, where teachers find their text.")] = Path("stores"),
    allow_missing: Annotated[bool, typer.Option(help="Score incomplete folders; every table counts the gap.")] = False,
    cost: Annotated[bool, typer.Option(help="Measure parameters, FLOPs, latency and memory.")] = True,
    published: Annotated[
        bool, typer.Option("--published", help="Add the paper's printed rows, marked as such.")
    ] = False,
    ceiling: Annotated[int, typer.Option(min=0, help="Optimise the pixels of N pairs for VIF + Qabf.")] = 0,
    detector: Annotated[str | None, typer.Option(help="A transformers object detector: id or folder.")] = None,
    predictions: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR of boxes as YOLO text with confidence; may be repeated.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="YOLO label files; else the data set's det_labels.")] = None,
    segmenter: Annotated[str | None, typer.Option(help="A transformers segmentation model: id or folder.")] = None,
    masks: Annotated[list[str] | None, typer.Option(help="NAME=DIR of predicted masks; may be repeated.")] = None,
    mask_labels: Annotated[Path | None, typer.Option(help="Label masks of class numbers, <stem>.png.")] = None,
    mask_classes: Annotated[str | None, typer.Option(help="Class names in order, with commas between.")] = None,
    table: Annotated[
        int | None, typer.Option(min=1, max=7, help="Train and score what table N of the paper compares.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe for --table. Default: the paper's.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Over the recipe of --table.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            help="Also draw 24 fixed pairs a data set with crops at 200 %: FILE.png, .webp or .jpg; pages FILE-DATASET-1.png and so on."
        ),
    ] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the result as JSON to this file (- is standard output).")
    ] = None,
) -> None:
    """Score methods on data sets: tables with intervals and tests, and one HTML page with the pictures.

    Without --method it takes the data set's own runs and the shipped weights. Classical baselines are always there.

    Example: fusioncli bench --dataset roadscene --method ours=runs/roadscene-student --method rival=folder/of/images
    """
    import shlex
    import sys

    from fusion.bench_run import BenchOptions, run_all
    from fusion.paper_tables import paper_datasets, train_variants
    from fusion.score import names_in
    from fusion.tables import console_table
    from pipeline.console import check_json, emit_json, note, show_table
    from pipeline.errors import InputError

    check_json(json)
    _check_idle(
        ("--recipe", recipe, "--table", table),
        ("--set", settings, "--table", table),
        ("--labels", labels, "--detector or --predictions", detector or predictions),
        ("--mask-labels", mask_labels, "--segmenter or --masks", segmenter or masks),
        ("--mask-classes", mask_classes, "--segmenter or --masks", segmenter or masks),
    )
    methods = _named("--method", method)
    if table is not None:
        dataset = dataset or list(paper_datasets(table))
        trained = train_variants(
            table, recipe, tuple(settings or ()), runs=runs, stores=stores, datasets=tuple(dataset)
        )
        methods, published = {**trained, **methods}, True
    if not dataset:
        raise InputError("no --dataset given; `fusioncli data list` names them, for example --dataset roadscene")
    result = run_all(
        BenchOptions(
            datasets=tuple(dict.fromkeys(dataset)),
            root=root,
            methods=methods,
            out=out,
            split=split,
            limit=limit,
            convention=convention,
            metrics=names_in(metrics, convention),
            boxes=boxes,
            device=device,
            runs=runs,
            stores=stores,
            allow_missing=allow_missing,
            cost=cost,
            published=published,
            published_tables=(str(table),) if table else ("1", "2"),
            ceiling=ceiling,
            detector=detector,
            predictions=_named("--predictions", predictions),
            labels=labels,
            segmenter=segmenter,
            masks=_named("--masks", masks),
            mask_labels=mask_labels,
            mask_classes=tuple(name.strip() for name in mask_classes.split(",")) if mask_classes else (),
            sheet=sheet,
            command=shlex.join(["fusioncli", *sys.argv[1:]]),
        )
    )
    if json is not None:
        emit_json(result.as_json(), json)
    if json != "-":
        for one in result.datasets:
            show_table(*console_table(one))
        for extra in result.tables:
            show_table(extra.title, extra.header, extra.rows)
    note(f"page: {out / 'index.html'}; tables: table.md, table.tex, images.csv, bench.json beside it")


def _named(option: str, entries: list[str] | None) -> dict[str, str]:
    """``NAME=PATH`` words as a mapping. Raises InputError for another form and for a name given twice."""
    from pipeline.errors import InputError

    given: dict[str, str] = {}
    for entry in entries or []:
        name, equals, source = entry.partition("=")
        if not equals or not name or not source:
            raise InputError(f"{option} {entry}: expected NAME=PATH, for example ours=runs/roadscene-student")
        if name in given:
            raise InputError(f"{option} {name} is given twice; every method needs a name of its own")
        given[name] = source
    return given


def _check_idle(*options: tuple[str, object, str, object]) -> None:
    """Raises InputError for an option that is given without the one that it is for."""
    from pipeline.errors import InputError

    for name, value, other, needed in options:
        if value and not needed:
            raise InputError(f"{name} does nothing without {other}")
