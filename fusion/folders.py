"""Fusing folders: pairs by stem, with decoding, fusing and encoding overlapped."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from fusion.inference import EIGHT_BIT_COLOUR, SUFFIXES, Fuser, Output, read_checked, save_fused
from pipeline.atomic import write_text
from pipeline.errors import FusionError, InputError, TooManyFailures
from pipeline.images import Picture
from pipeline.pairs import Pair, pair_folders, shown

LOG = "fused.csv"
FIELDS = ("stem", "status", "output", "inputs_sha256", "output_sha256", "error")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log. ``inputs_sha256`` covers both files, the weights and the output options."""

    stem: str
    status: str
    output: str
    inputs_sha256: str
    output_sha256: str
    error: str


Decoded = tuple[str, Picture, Picture] | Entry


def fuse_folders(
    fuser: Fuser,
    first: Path,
    second: Path,
    out: Path,
    output: Output = EIGHT_BIT_COLOUR,
    suffix: str = ".png",
    jobs: int = 2,
    on_pair: Callable[[Entry], None] = lambda entry: None,
) -> list[Entry]:
    """Fuse every pair of two folders into ``out``/<stem><suffix> and log it in ``out``/fused.csv.

    An output that the log knows, made of the same bytes by the same weights and unchanged since, is kept. A pair that
    fails is logged and the others go on; then TooManyFailures says which. Raises PairingError for folders that do not
    pair up, before anything is written.
    """
    if SUFFIXES.get(suffix) is None:
        raise InputError(
            f"--format {suffix.lstrip('.')!r}: use one of {', '.join(name.lstrip('.') for name in SUFFIXES)}"
        )
    pairs = pair_folders(first, second)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file where the output folder was expected")
    out.mkdir(parents=True, exist_ok=True)
    known = read_log(out / LOG)
    settings = f"{fuser.identity} {fuser.tile} {asdict(output)} {suffix}"
    entries: list[Entry] = []
    with ThreadPoolExecutor(max(1, jobs)) as readers, ThreadPoolExecutor(max(1, jobs)) as writers:
        saving: deque[Future[Entry]] = deque()

        def collect(limit: int) -> None:
            while len(saving) > limit:
                entry = saving.popleft().result()
                entries.append(entry)
                on_pair(entry)

        try:
            for pair, decoded in _decoded(readers, pairs, out, suffix, settings, known, 2 * jobs + 1):
                saving.append(writers.submit(_finish, fuser, pair, decoded, out / f"{pair.stem}{suffix}", output))
                collect(2 * jobs)
            collect(0)
        finally:
            write_log(out / LOG, {**known, **{entry.stem: entry for entry in entries}})
    failed = [f"{entry.stem} ({entry.error})" for entry in entries if entry.status == "failed"]
    if failed:
        raise TooManyFailures(f"{len(failed)} of {len(pairs)} pairs failed: {shown(failed)}; the others are in {out}")
    return entries


def read_log(path: Path) -> dict[str, Entry]:
    """The log by stem; empty when there is none or it is not one."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != FIELDS:
            return {}
        return {row["stem"]: Entry(**row) for row in rows}


def write_log(path: Path, entries: dict[str, Entry]) -> None:
    """Write the log, sorted by stem."""
    buffer = io.StringIO()
    rows = csv.DictWriter(buffer, FIELDS)
    rows.writeheader()
    rows.writerows(asdict(entries[stem]) for stem in sorted(entries))
    write_text(path, buffer.getvalue())


def _decoded(
    pool: ThreadPoolExecutor,
    pairs: Sequence[Pair],
    out: Path,
    suffix: str,
    settings: str,
    known: dict[str, Entry],
    ahead: int,
) -> Iterator[tuple[Pair, Decoded]]:
    """Decode at most ``ahead`` pairs before they are needed, in order."""
    waiting: deque[tuple[Pair, Future[Decoded]]] = deque()
    for pair in pairs:
        waiting.append((pair, pool.submit(_decode, pair, out / f"{pair.stem}{suffix}", settings, known.get(pair.stem))))
        if len(waiting) > ahead:
            done, future = waiting.popleft()
            yield done, future.result()
    while waiting:
        done, future = waiting.popleft()
        yield done, future.result()


def _decode(pair: Pair, target: Path, settings: str, known: Entry | None) -> Decoded:
    digest = ""
    try:
        content = pair.first.read_bytes() + b"\0" + pair.second.read_bytes()
        digest = hashlib.sha256(settings.encode() + b"\0" + content).hexdigest()
        if known and known.status == "ok" and known.inputs_sha256 == digest and _sha256(target) == known.output_sha256:
            return known
        return (digest, *read_checked(pair.first, pair.second))
    except FusionError as error:
        return Entry(
            stem=pair.stem, status="failed", output="", inputs_sha256=digest, output_sha256="", error=str(error)
        )


def _finish(fuser: Fuser, pair: Pair, decoded: Decoded, target: Path, output: Output) -> Entry:
    if isinstance(decoded, Entry):
        return decoded
    digest, visible, infrared = decoded
    save_fused(target, fuser.fuse_pictures(visible, infrared), visible, output)
    return Entry(
        stem=pair.stem,
        status="ok",
        output=target.name,
        inputs_sha256=digest,
        output_sha256=_sha256(target),
        error="",
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
