"""The whole of stage one for one data set: plan, finish every shard, count, judge."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.captioners import check_captioner
from pipeline.card import write_card
from pipeline.console import note, progress
from pipeline.embedders import check_embedder
from pipeline.errors import FusionError, InputError, StoreError, TooManyFailures, closest
from pipeline.frozen import frozen_source
from pipeline.job import JobSpec, Progress
from pipeline.manifest import NAME, Manifest
from pipeline.pairs import Pair, data_root
from pipeline.place import write
from pipeline.planning import SHARD_SIZE, open_or_plan
from pipeline.runners import RUNNERS, Run
from pipeline.shards import FAILED
from pipeline.store import DEFAULT_PRIOR, Store
from pipeline.words import counted

DEFAULT_CAPTIONER = "vllm"
DEFAULT_EMBEDDER = "clip"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the pairs come from."""

    manifest: Manifest
    pairs: Sequence[Pair]
    root: Path


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """What is asked for. ``captioner`` or ``embedder`` None: not said.

    ``store`` is a path or URL, ``*_settings`` are texts by name as after ``--set``. ``workers`` 0: as many as the machine
    has use for. ``rank`` of ``world_size`` is this process's part of a job array. ``shard_size`` (pairs; None: the store's,
    else 128) and ``limit`` (the first pairs alone) belong to the plan. ``max_failed`` as in ``parse_allowance``. ``root``:
    the data root by which missing tars of a store that is named alone are made again.
    """

    store: str
    prior: str | None = None
    captioner: str | None = None
    embedder: str | None = None
    captioner_settings: Mapping[str, str] = field(default_factory=dict)
    embedder_settings: Mapping[str, str] = field(default_factory=dict)
    runner: str = "local"
    workers: int = 0
    rank: int = 0
    world_size: int = 1
    shard_size: int | None = None
    limit: int | None = None
    retry_failed: bool = False
    max_failed: str = "1%"
    plan_only: bool = False
    root: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run left behind. ``done`` shards of ``shards``; the counts are over the done ones."""

    store: str
    prior: str
    shards: int
    done: int
    pairs: int
    failed: int
    errors: dict[str, int]
    unknown_labels: dict[str, int]
    first_error: str | None
    seconds: float


def caption_pairs(
    options: CaptionOptions, source: Source | None, tell: Callable[[Summary], None] = lambda summary: None
) -> Summary:
    """Plan (once), finish the shards that are this run's, and count. ``tell`` gets the counts whatever they are.

    Raises InputError and MissingPackage before any work, FingerprintMismatch where a store was begun with other data or
    settings, StoreError for a damaged one, FusionError where shards are left undone, and TooManyFailures at the end.
    """
    allowed = parse_allowance(options.max_failed)
    if options.runner not in RUNNERS:
        raise InputError(
            f"no runner {options.runner!r}{closest(options.runner, RUNNERS)}; there are: {', '.join(RUNNERS)}"
        )
    if not 0 <= options.rank < options.world_size:
        raise InputError(f"--rank {options.rank}: must be at least 0 and below --world-size {options.world_size}")
    if options.prior is not None and not NAME.fullmatch(options.prior):
        raise InputError(f"--prior {options.prior!r}: letters, digits, _ and - only, at most 64")
    if options.plan_only:
        summary = summarise(_store(options, source), options.prior or DEFAULT_PRIOR)
        tell(summary)
        return summary
    captioner, embedder, prior, frozen = _choose(options)
    if frozen is None:
        check_captioner(captioner, options.captioner_settings)
    check_embedder(embedder, options.embedder_settings)
    workers = _workers(options, source, captioner if frozen is None else "")
    root = source.root if source else data_root(options.root) if options.root else None
    with RUNNERS[options.runner](workers) as run:  # processes load their modules while the plan is made
        store = _store(options, source)
        spec = JobSpec(
            store=options.store,
            prior=prior,
            root=str(root) if root else None,
            task=store.header.task,
            captioner=captioner,
            embedder=embedder,
            captioner_settings=options.captioner_settings,
            embedder_settings=options.embedder_settings,
            captions_of=frozen,
            retry_failed=options.retry_failed,
        )
        seconds = _run(spec, store, options, run, workers)
    summary = summarise(store, prior, seconds)
    if summary.done == summary.shards:
        write_card(store)
    tell(summary)
    if left := sorted({*_stripe(summary.shards, options)} - {*store.finished(prior)}):
        raise FusionError(
            f"{options.store}: {counted(len(left), 'shard')} of prior {prior!r} unfinished, the first is {left[0]}: another "
            "process took them over; run the same command again to finish what remains"
        )
    if summary.failed > allowed * summary.pairs if allowed < 1 else summary.failed > allowed:
        raise TooManyFailures(
            f"{options.store}: {summary.failed} of {summary.pairs} pairs failed ({_listing(summary.errors)}), more than "
            f"--max-failed {options.max_failed}; the first: {summary.first_error}; see them with `fusioncli store show "
            f"{options.store}`, try them again with --retry-failed"
        )
    return summary


def parse_allowance(text: str) -> float:
    """``"1%"`` to 0.01, a share below 1; ``"20"`` to 20, a count; ``"100%"`` to infinity. Raises InputError."""
    try:
        value = float(text.removesuffix("%"))
        if not math.isfinite(value):
            raise ValueError
    except ValueError as error:
        raise InputError(f"--max-failed {text!r}: expected a percentage such as 1%, or a number of pairs") from error
    if text.endswith("%") and 0 <= value <= 100:
        return value / 100 if value < 100 else math.inf
    if text.endswith("%") or value < 0 or value != int(value):
        raise InputError(f"--max-failed {text!r}: expected a percentage from 0% to 100%, or a whole number of pairs")
    return value


def summarise(store: Store, prior: str, seconds: float = 0.0) -> Summary:
    """Counts over the done shards, from their markers."""
    shards = store.finished(prior)
    markers = [store.marker(prior, shard) or {} for shard in shards]
    bad = next((shard for shard, marker in zip(shards, markers, strict=True) if marker.get("failed")), None)
    errors: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for marker in markers:
        errors.update(marker.get("errors", {}))
        unknown.update(marker.get("unknown_labels", {}))
    return Summary(
        store=store.name,
        prior=prior,
        shards=store.header.shards,
        done=len(markers),
        pairs=sum(marker.get("rows", 0) for marker in markers),
        failed=sum(marker.get("failed", 0) for marker in markers),
        errors=dict(errors),
        unknown_labels=dict(unknown),
        first_error=None if bad is None else _first_error(store, prior, bad),
        seconds=seconds,
    )


def _first_error(store: Store, prior: str, shard: int) -> str | None:
    rows = store.shard_table(prior, shard, ["key", "status", "error"]).to_pylist()
    return next((f"{row['key']}: {row['error']}" for row in rows if row["status"] == FAILED), None)


def _choose(options: CaptionOptions) -> tuple[str, str, str, str | None]:
    """Captioner, embedder, prior, and the prior whose frozen captions are embedded anew (None: none).

    ``--embedder`` without ``--captioner`` on a finished prior means its captions under another embedder; the result is a
    prior of its own, ``<prior>-<embedder>``, because a finished one is never changed.
    """
    prior = options.prior or DEFAULT_PRIOR
    embedder = options.embedder or DEFAULT_EMBEDDER
    if options.captioner is None and options.embedder is not None:
        try:
            store = Store.open(options.store)
        except StoreError:
            return DEFAULT_CAPTIONER, embedder, prior, None
        if before := frozen_source(store, options.prior, embedder):
            name = options.prior or f"{before}-{embedder}"
            note(f"embedding the frozen captions of prior {before!r} with {embedder} into prior {name!r}")
            return str(store.fingerprint(before)["captioner"]["name"]), embedder, name, before
    return options.captioner or DEFAULT_CAPTIONER, embedder, prior, None


def _store(options: CaptionOptions, source: Source | None) -> Store:
    if source is None:
        store = Store.open(options.store)
        for part, asked in (("limit", options.limit), ("shard_size", options.shard_size)):
            planned = getattr(store.header, part)
            if asked is not None and asked != planned:
                word = f"--{part.replace('_', '-')} {asked}"
                raise InputError(
                    f"{word}: {store.name} is planned with {planned or 'no limit'}, and a plan is never edited; "
                    "leave the option out, or name the pairs with --dataset or --pairs and a new place with --store"
                )
        return store
    return open_or_plan(
        options.store,
        source.manifest,
        source.pairs,
        source.root,
        limit=options.limit,
        shard_size=options.shard_size,
    )


def _run(spec: JobSpec, store: Store, options: CaptionOptions, run: Run, workers: int) -> float:
    mine = _stripe(store.header.shards, options)
    started = time.monotonic()
    state: Counter[str] = Counter()
    with progress("rate", "failed") as bar:
        task = bar.add_task(f"captions by {spec.captioner}", total=_unfinished(store, spec, mine), rate="", failed="")

        def report(step: Progress) -> None:
            if step.waiting:
                note(f"waiting for {counted(step.waiting, 'shard')} of other processes; what they leave is done here")
            state.update(pairs=step.pairs, failed=step.failed, tokens=step.tokens)
            elapsed = max(time.monotonic() - started, 1e-6)
            tokens = f", {state['tokens'] / elapsed:.0f} tokens/s" if state["tokens"] else ""
            rate = f"{state['pairs'] / elapsed:.1f} pairs/s{tokens}"
            bar.update(task, advance=step.pairs, rate=rate, failed=f"{state['failed']} failed")

        run(spec, mine, report)
    seconds = time.monotonic() - started
    log: dict[str, Any] = {"prior": spec.prior, "seconds": seconds, "workers": workers, "runner": options.runner}
    name = f"logs/run-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{socket.gethostname()}-{os.getpid()}.json"
    write(store.place, name, json.dumps({**log, **state}, indent=1).encode())
    return seconds


def _stripe(shards: int, options: CaptionOptions) -> range:
    """The shards that are this run's: all, or every ``world_size``-th."""
    return range(options.rank, shards, options.world_size)


def _workers(options: CaptionOptions, source: Source | None, captioner: str) -> int:
    """As many as asked for, but no more than this run has shards."""
    try:
        shards = Store.open(options.store).header.shards
    except StoreError:  # it is about to be planned
        pairs = min(len(source.pairs), options.limit or math.inf) if source else 0
        shards = math.ceil(pairs / (options.shard_size or SHARD_SIZE))
    return min(options.workers or default_workers(captioner), len(_stripe(shards, options)))


def _unfinished(store: Store, spec: JobSpec, shards: Sequence[int]) -> int:
    """Pairs still to be captioned, for the progress bar."""
    done = set(store.finished(spec.prior)) if not spec.retry_failed else set()
    return sum(store.shard_pairs(shard) for shard in shards if shard not in done)


def default_workers(captioner: str) -> int:
    """One process a core for ``measured``, one a GPU for models that run here, else one."""
    if captioner == "measured":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if captioner in ("vllm", "transformers"):
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{kind}: {number}" for kind, number in sorted(counts.items()))
