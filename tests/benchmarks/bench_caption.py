"""How fast is stage one? `make bench-caption` runs this: captioning against merely decoding, and memory against size.

Ratios within one run are what counts; the absolute figures belong to the machine. Shards have 45 pairs: of the 361 MSRS pairs
two processes then do 181 and 180.

Freed memory is kept for the next call, as in `fusioncli` (`pipeline.allocator`).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

import pipeline.captioners.measured
import pipeline.captioning
import pipeline.job
import pipeline.packing
from pipeline.allocator import keep_freed_memory
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.console import set_quiet
from pipeline.images import read_image
from pipeline.manifest import load_manifest
from pipeline.pairs import Pair, find_pairs
from pipeline.shards import TarWriter

SHARD_SIZE = 45
PARTS: dict[str, tuple[Any, str]] = {
    "reading what is packed, checking its SHA-256": (pipeline.packing, "pair_bytes"),
    "writing the tar": (TarWriter, "add"),
    "figures off the pixels": (pipeline.captioners.measured, "read_pixels"),
    "text vectors and rows": (pipeline.job, "prior_rows"),
    "commit": (pipeline.job.Job, "_commit"),
    "card": (pipeline.captioning, "write_card"),
}
ROUNDS = 3  # of bare decoding and captioning in turn; medians


def caption(
    store: Path, source: Source, *, workers: int, limit: int | None = None, shard_size: int = SHARD_SIZE
) -> None:
    """The whole of stage one without a model."""
    options = CaptionOptions(
        store=str(store),
        captioner="measured",
        embedder="hashing",
        workers=workers,
        limit=limit,
        shard_size=shard_size,
    )
    caption_pairs(options, source)


def decode(paths: list[tuple[Path, Path]]) -> int:
    """Decode pairs and forget them."""
    for pair in paths:
        for path in pair:
            read_image(path)
    return len(paths)


def bare_rate(pairs: Sequence[Pair], workers: int) -> float:
    """Pairs a second with one process per core that only decodes."""
    paths = [(pair.first, pair.second) for pair in pairs]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(decode, [paths[:1]] * workers))  # the processes are up before the clock starts
        started = time.monotonic()
        list(pool.map(decode, [paths[rank::workers] for rank in range(workers)]))
        return len(paths) / (time.monotonic() - started)


def caption_rate(source: Source, workers: int, folder: Path) -> float:
    """Pairs a second of the whole work: decode, measure, embed, pack, commit; starting the processes is left out."""
    start = time.monotonic()
    caption(folder / "first", source, workers=workers, limit=workers, shard_size=1)
    starting = time.monotonic() - start
    start = time.monotonic()
    caption(folder / "all", source, workers=workers)
    return (len(source.pairs) - workers) / (time.monotonic() - start - starting)


def cpu_ratio(source: Source, folder: Path, rounds: int = ROUNDS) -> dict[str, float]:
    """CPU milliseconds a pair of bare decoding and of captioning in one process, interleaved; medians.

    Other work on the machine stretches the wall clock of both sides unevenly, CPU time much less.
    """
    paths = [(pair.first, pair.second) for pair in source.pairs]
    times: list[tuple[float, float]] = []
    for number in range(-1, rounds):  # the first round loads the modules
        start = time.process_time()
        decode(paths)
        middle = time.process_time()
        caption(folder / f"round{number}", source, workers=1)
        times.append((middle - start, time.process_time() - middle))
    bare, whole = (1e3 * statistics.median(side) / len(paths) for side in zip(*times[1:], strict=True))
    ratio = statistics.median(one / two for one, two in times[1:])
    return {
        "bare decode CPU ms/pair": round(bare, 2),
        "caption CPU ms/pair": round(whole, 2),
        "ratio": round(ratio, 3),
    }


def part_times(source: Source, folder: Path) -> dict[str, float]:
    """CPU milliseconds a pair of the parts of captioning, each in the thread that does it, planning in all of its own."""
    spent = dict.fromkeys(PARTS, 0.0)

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*values: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*values, **named)
            finally:
                spent[part] += time.thread_time() - start

        return timed_call

    caption(folder / "warm", source, workers=1, limit=SHARD_SIZE)
    start = time.process_time()
    options = CaptionOptions(store=str(folder / "store"), shard_size=SHARD_SIZE, plan_only=True)
    caption_pairs(options, source)
    planning = time.process_time() - start
    with ExitStack() as patches:
        for part, (owner, name) in PARTS.items():
            patches.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        caption(folder / "store", source, workers=1)
    return {part: round(1e3 * value / len(source.pairs), 2) for part, value in {"planning": planning, **spent}.items()}


def peak_memory(count: int, folder: Path) -> float:
    """Peak resident MiB of a process that captions ``count`` tiny pairs."""
    head = io.BytesIO()
    Image.new("RGB", (8, 8)).save(head, "BMP")  # 54 bytes before the pixels; PIL would take minutes for all of them
    rng = np.random.default_rng(0)
    for name in ("vi", "ir"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            grey = rng.integers(0, 256, 64, dtype=np.uint8).repeat(3)
            (folder / name / f"{number:06d}.bmp").write_bytes(head.getvalue()[:54] + grey.tobytes())
    command = [sys.executable, "-m", "cli", "--quiet", "caption", "--pairs", folder / "vi", folder / "ir"]
    command += ["--captioner", "measured", "--embedder", "hashing", "--workers", "1", "--store", folder / "store"]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"captioning {count} tiny pairs failed")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Print one JSON object."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pairs", type=int, help="only so many of the 361 MSRS test pairs")
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 10_000], help="numbers of tiny pairs")
    parser.add_argument("--cpu-only", action="store_true", help="no wall clock: for a machine that is busy")
    arguments = parser.parse_args()
    set_quiet(True)
    manifest = load_manifest("msrs")
    pairs = find_pairs(manifest, arguments.root, ["test"])[: arguments.pairs]
    source = Source(manifest=manifest, pairs=pairs, root=arguments.root)
    size = sum(path.stat().st_size for pair in pairs for path in (pair.first, pair.second)) / 2**20
    rates: list[float] = []
    answer: dict[str, object] = {"pairs": len(pairs), "MiB": round(size, 1)}
    for count in arguments.memory:  # first: Linux starts a child's peak at what its parent has
        with tempfile.TemporaryDirectory() as folder:
            answer[f"peak MiB for {count} tiny pairs"] = round(peak_memory(count, Path(folder) / "tiny"), 1)
    with tempfile.TemporaryDirectory() as folder:
        answer["CPU time, 1 process"] = cpu_ratio(source, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        answer["of that, CPU ms/pair"] = part_times(source, Path(folder))
    for workers in () if arguments.cpu_only else (1, 2):
        turns = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                turns.append((bare_rate(pairs, workers), caption_rate(source, workers, Path(folder))))
        bare, rate = (statistics.median(side) for side in zip(*turns, strict=True))
        answer[f"{workers} processes"] = {
            "bare decode pairs/s": round(bare, 1),
            "caption pairs/s": round(rate, 1),
            "caption MiB/s": round(rate * size / len(pairs), 1),
            "ratio": round(rate / bare, 3),
            "ratio of each round": [round(one / other, 3) for other, one in turns],
        }
        rates.append(rate)
    if len(rates) == 2:
        answer["scaling from 1 to 2 processes"] = round(rates[1] / rates[0], 2)
    answer["peak MiB of this process"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
