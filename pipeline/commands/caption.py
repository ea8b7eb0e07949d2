"""The command that runs stage one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import InputError


def caption(
    dataset: Annotated[str | None, typer.Option(help="A data set that `fusioncli data list` knows.")] = None,
    pairs: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="VIS_DIR IR_DIR", help="Any two folders, paired by file stem.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; may be repeated. Default: all.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Data root. Default: FUSIONCLI_DATA, else data/. With --store alone: to mend its tars."),
    ] = None,
    store: Annotated[str | None, typer.Option(help="Folder or URL of the store. Default: stores/<dataset>.")] = None,
    prior: Annotated[str | None, typer.Option(help="Name of the prior. Default: text.")] = None,
    captioner: Annotated[
        str | None, typer.Option(help="vllm (default), server, transformers, measured or import.")
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="clip (default) or hashing. Alone, on a finished store: embed its captions anew.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model id or folder of the captioner.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of that model.")] = None,
    url: Annotated[list[str] | None, typer.Option(help="Endpoint for --captioner server; may be repeated.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Folder of <stem>.txt or .json files for --captioner import.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another setting of the captioner.")
    ] = None,
    embedder_set: Annotated[
        list[str] | None, typer.Option("--embedder-set", metavar="KEY=VALUE", help="A setting of the embedder.")
    ] = None,
    runner: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core (measured) or one a GPU.")] = 0,
    rank: Annotated[int | None, typer.Option(help="Of a job array. Default: SLURM_ARRAY_TASK_ID, else 0.")] = None,
    world_size: Annotated[int | None, typer.Option(help="Default: SLURM_ARRAY_TASK_COUNT, else 1.")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Pairs a shard. Default: 128.")] = None,
    limit: Annotated[int | None, typer.Option(help="Plan only the first N pairs.")] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Hash and plan the pairs, then stop: once, before a job array starts.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try failed pairs again, and only those.")
    ] = False,
    max_failed: Annotated[str, typer.Option(help="More failures than this share (1%) or number: exit code 3.")] = "1%",
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Write the summary as JSON (- for stdout).")] = None,
) -> None:
    """Caption, embed, weigh and pack every pair into a store. Resumes where it stopped.

    Example: fusioncli caption --dataset roadscene --captioner measured --embedder hashing
    """
    from pipeline.captioning import CaptionOptions, caption_pairs
    from pipeline.console import check_json
    from pipeline.settings import split_settings
    from pipeline.sources import default_store, find_source
    from pipeline.summary import show_next, show_summary

    check_json(json)
    settings = split_settings(set_ or ())
    named = {"model": model, "revision": revision, "urls": ",".join(url or ()), "folder": str(from_) if from_ else None}
    settings.update({key: value for key, value in named.items() if value})
    source = find_source(dataset, pairs, split, root, store)
    options = CaptionOptions(
        store=store or default_store(source),
        prior=prior,
        captioner=captioner,
        embedder=embedder,
        captioner_settings=settings,
        embedder_settings=split_settings(embedder_set or (), "--embedder-set"),
        runner=runner,
        workers=workers,
        rank=place_in_array()[0] if rank is None else rank,
        world_size=place_in_array()[1] if world_size is None else world_size,
        shard_size=shard_size,
        limit=limit,
        retry_failed=retry_failed,
        max_failed=max_failed,
        plan_only=plan_only,
        root=root,
    )
    show_next(caption_pairs(options, source, tell=lambda summary: show_summary(summary, json)))


def place_in_array() -> tuple[int, int]:
    """This task's rank in its Slurm array, which may begin anywhere and count in steps, and the array's size; else 0 of 1.

    Raises InputError for a task of a list with gaps, as in ``--array=3,7``: its place cannot be known from its number; and
    for a variable that holds no number.
    """
    task, first, step, count = (
        _of_array(name, default, least)
        for name, default, least in (("ID", 0, 0), ("MIN", 0, 0), ("STEP", 1, 1), ("COUNT", 1, 1))
    )
    rank = (task - first) // step
    if "SLURM_ARRAY_TASK_COUNT" in os.environ and rank >= count:
        raise InputError(
            f"task {task} of a Slurm array of {count} that begins at {first}: the array's numbers have gaps, "
            "so give --rank and --world-size, of the array that was meant"
        )
    return rank, count


def _of_array(name: str, default: int, least: int) -> int:
    text = os.environ.get(f"SLURM_ARRAY_TASK_{name}", str(default))
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise InputError(
            f"SLURM_ARRAY_TASK_{name} is {text!r}, expected a number of at least {least}; unset it, or give --rank and "
            "--world-size"
        )
    return int(text)
