"""Fusing folders: pairs by stem, read ahead, and decoded, fused and encoded at the same time."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import KINDS, STRICT, Fit, Fitted
from fusion.fused_image import (
    DEEP_WRITERS,
    EIGHT_BIT_COLOUR,
    SUFFIXES,
    Output,
    save_fused,
    save_transform,
    transform_of,
)
from fusion.inference import Fuser, fuse_for, read_checked
from fusion.thread_share import fusing_threads
from pipeline.atomic import write_bytes
from pipeline.errors import FusionError, InputError, TooManyFailures
from pipeline.images import file_content
from pipeline.pairs import Pair, pair_folders

LOG = "fused.csv"
FIELDS = ("stem", "status", "output", "inputs_sha256", "output_sha256", "error")
ANY_NAME = "surrogateescape"  # file names that are not UTF-8 go into the log byte for byte
LISTED = 50  # failed pairs named at the end; the log has all


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log. ``inputs_sha256`` covers both files, the weights and the options.

    ``kept``: whether the output was there already; that is not in the log.
    """

    stem: str
    status: str
    output: str
    inputs_sha256: str
    output_sha256: str
    error: str
    kept: bool = field(default=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How a folder is fused. ``jobs`` threads decode and as many encode; the fuser says how many fuse (``at_once``)."""

    output: Output = EIGHT_BIT_COLOUR
    suffix: str = ".png"
    jobs: int = 2
    asked: Fit = STRICT

    def __post_init__(self) -> None:
        if SUFFIXES.get(self.suffix) is None:
            known = ", ".join(name.lstrip(".") for name in SUFFIXES)
            raise InputError(f"--format {self.suffix.lstrip('.')!r}: use one of {known}")
        if self.output.sixteen_bit and SUFFIXES[self.suffix] not in DEEP_WRITERS:
            raise InputError(f"--format {self.suffix.lstrip('.')} holds no 16-bit images; use png or tiff")
        if self.jobs < 1:
            raise InputError(f"--jobs {self.jobs}: at least 1")


Read = tuple[str, Fitted] | Entry


def fuse_folders(
    fuser: Fuser,
    first: Path,
    second: Path,
    out: Path,
    options: FolderOptions | None = None,
    on_pair: Callable[[Entry], None] = lambda entry: None,
) -> list[Entry]:
    """Fuse every pair of two folders into ``out``/<stem><suffix> and log it in ``out``/fused.csv.

    An output that the log knows, made of the same bytes by the same weights and options and unchanged since, is kept. A
    pair that fails is logged as such and the others go on. Raises PairingError for folders that do not pair up and
    InputError for an output folder that cannot be one or holds another's fused.csv, before anything is written.
    """
    options = options or FolderOptions()
    pairs = pair_folders(first, second)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file where the output folder was expected")
    if out.resolve() in (first.resolve(), second.resolve()):
        raise InputError(f"{out}: holds the images to be fused; give another folder with --out")
    if any(out.resolve().is_relative_to(folder.resolve()) for folder in (first, second)):
        raise InputError(f"{out}: inside the folder of the images, where only images may lie; give another with --out")
    sources = {os.path.realpath(path) for pair in pairs for path in (pair.first, pair.second)}
    for pair in pairs:
        if os.path.realpath(out / f"{pair.stem}{options.suffix}") in sources:
            raise InputError(
                f"{out / f'{pair.stem}{options.suffix}'}: one of the images to be fused; give another --out"
            )
    known = read_log(out / LOG)
    out.mkdir(parents=True, exist_ok=True)
    settings = f"{fuser.identity} {fuser.tile} {asdict(options.output)} {options.suffix} {asdict(options.asked)}"
    write_log(out / LOG, known)
    entries: list[Entry] = []
    with (
        (out / LOG).open("a", newline="", encoding="utf-8", errors=ANY_NAME) as log,
        ThreadPoolExecutor(options.jobs) as writers,  # the last to end: those who fuse hand over to them
        fusing_threads(fuser.at_once) as fusers,
        ThreadPoolExecutor(options.jobs) as readers,
    ):
        fusing: deque[Future[Future[Entry]]] = deque()

        def collect(limit: int) -> None:
            while len(fusing) > limit:
                entry = fusing[0].result().result()
                name = f"{entry.stem}{options.suffix}"
                if entry.status == "failed" and (out / name).exists():
                    entry = replace(entry, error=f"{entry.error} (the {name} there is not of this run)")
                entries.append(entry)
                append_log(log, entry)
                fusing.popleft()
                on_pair(entry)

        try:
            for pair, read in _ahead(readers, pairs, out, options, settings, known):
                fusing.append(fusers.submit(_fuse, fuser, pair, read, out, options, writers))
                collect(2 * (options.jobs + fuser.at_once))
            collect(0)
        except (KeyboardInterrupt, SystemExit):  # what is being fused is finished, and known to the next run
            begun = [one for one in fusing if not one.cancel()]
            fusing.clear()
            fusing.extend(begun)
            collect(0)
            raise
    write_log(out / LOG, {**known, **{entry.stem: entry for entry in entries}})
    return entries


def check_entries(entries: Sequence[Entry], out: Path) -> None:
    """Raises TooManyFailures naming the pairs that failed and why."""
    failed = [f"\n  {entry.stem}: {entry.error}" for entry in entries if entry.status == "failed"]
    if failed:
        more = f"\n  … and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
        raise TooManyFailures(
            f"{len(failed)} of {len(entries)} pairs failed; the others are in {out}, all are in {out / LOG}:"
            f"{''.join(failed[:LISTED])}{more}"
        )


def read_log(path: Path) -> dict[str, Entry]:
    """The log by stem, without lines cut short by an interruption; empty when there is none.

    Raises InputError for a file that is something else: it would be written over.
    """
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8", errors=ANY_NAME) as file:
        rows = csv.DictReader(file)
        try:
            fields = tuple(rows.fieldnames or FIELDS)
            whole: list[dict[str, Any]] = [row for row in rows if set(row) == set(FIELDS) and None not in row.values()]
        except csv.Error:  # a quote that is never closed
            fields = ()
    if fields != FIELDS:
        raise InputError(f"{path}: not the log of an earlier run; move it away, or give another folder with --out")
    return {row["stem"]: Entry(**row) for row in whole}


def write_log(path: Path, entries: dict[str, Entry]) -> None:
    """Write the log, sorted by stem."""
    buffer = io.StringIO()
    rows = csv.DictWriter(buffer, FIELDS, extrasaction="ignore")
    rows.writeheader()
    rows.writerows(asdict(entries[stem]) for stem in sorted(entries))
    write_bytes(path, buffer.getvalue().encode("utf-8", ANY_NAME))


def append_log(log: TextIO, entry: Entry) -> None:
    """Add one line at once, so that a run that is killed knows what it had done."""
    csv.DictWriter(log, FIELDS, extrasaction="ignore").writerow(asdict(entry))
    log.flush()


def _ahead(
    pool: ThreadPoolExecutor,
    pairs: Sequence[Pair],
    out: Path,
    options: FolderOptions,
    settings: str,
    known: dict[str, Entry],
) -> Iterator[tuple[Pair, Read]]:
    """The pairs in order, a few of them decoded before they are needed."""
    waiting: deque[tuple[Pair, Future[Read]]] = deque()
    for pair in pairs:
        target = out / f"{pair.stem}{options.suffix}"
        waiting.append((pair, pool.submit(_read, pair, target, settings, options.asked, known.get(pair.stem))))
        if len(waiting) > 2 * options.jobs:
            done, future = waiting.popleft()
            yield done, future.result()
    while waiting:
        done, future = waiting.popleft()
        yield done, future.result()


def _read(pair: Pair, target: Path, settings: str, asked: Fit, known: Entry | None) -> Read:
    entry = Entry(stem=pair.stem, status="failed", output="", inputs_sha256="", output_sha256="", error="")
    try:
        content = file_content(pair.first) + b"\0" + file_content(pair.second)
        digest = hashlib.sha256(settings.encode() + b"\0" + content).hexdigest()
        entry = replace(entry, inputs_sha256=digest)
        if known and known.status == "ok" and known.inputs_sha256 == digest and _unchanged(target, known, asked):
            return replace(known, kept=True)
        return digest, read_checked(pair.first, pair.second, asked)
    except (FusionError, OSError) as error:
        return replace(entry, error=str(error))


def _unchanged(target: Path, known: Entry, asked: Fit) -> bool:
    described = asked.align not in KINDS or transform_of(target).is_file()
    return described and _sha256(target) == known.output_sha256


def _fuse(
    fuser: Fuser, pair: Pair, read: Read, out: Path, options: FolderOptions, writers: ThreadPoolExecutor
) -> Future[Entry]:
    """Fuse and hand the result to a thread that encodes it."""
    if isinstance(read, Entry):
        return writers.submit(lambda: read)
    digest, fitted = read
    entry = Entry(stem=pair.stem, status="failed", output="", inputs_sha256=digest, output_sha256="", error="")
    try:
        fused = fuse_for(fuser, fitted.visible, fitted.infrared, options.output)
    except FusionError as error:
        failed = replace(entry, error=str(error))
        return writers.submit(lambda: failed)
    return writers.submit(_write, entry, fused, fitted, out / f"{pair.stem}{options.suffix}", options.output)


def _write(
    entry: Entry, fused: NDArray[np.float32] | NDArray[np.uint8], fitted: Fitted, target: Path, output: Output
) -> Entry:
    try:
        save_fused(target, fused, fitted.visible, output)
        save_transform(target, fitted.transform)
        return replace(entry, status="ok", output=target.name, output_sha256=_sha256(target))
    except FusionError as error:
        return replace(entry, error=str(error))
    except OSError as error:
        return replace(entry, error=f"{target}: {error.strerror or error}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
