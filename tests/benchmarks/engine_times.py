"""Latency of one network in every engine it can be exported to, each in processes of its own.

Engines that share a process disturb one another: the worker threads of PyTorch, ONNX Runtime and OpenVINO go on spinning
after a call and take the cores from the next engine's. Here a fresh process measures a block of calls of one engine; the
blocks of all engines are repeated in rounds, so that a slow spell of the machine hits all of them.

    python engine_times.py ENGINE PATH HEIGHT WIDTH THREADS RUNS WARM_UP SECONDS       # one block, seconds as JSON
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fusion.catalog import network_entry
from fusion.engines import open_engine
from fusion.export import FILES, export_network
from fusion.quantisation import export_int8
from fusion.tiling import run
from fusion.weights import load_weights, save_weights, shipped_names
from pipeline.allocator import keep_freed_memory
from pipeline.console import note
from pipeline.errors import FusionError

EAGER = "torch"
FEWEST = 2  # timed calls of a block, however long they take
TARGET_MS = {"edge": 15.0, "nano": 5.0}  # on 2 threads, 640 x 480, in the fastest engine
TARGET_RATIO = {"student": 2.0}  # times as fast as PyTorch eager


@dataclass(frozen=True, kw_only=True)
class Block:
    """What one process measures: ``runs`` calls after ``warm_up``, or as many as ``seconds`` allow."""

    size: tuple[int, int]
    threads: int
    runs: int = 30
    warm_up: int = 8
    seconds: float = 20.0


@dataclass
class Times:
    """Seconds of every timed call so far, by the clock and of all threads of the process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def engine_rows(name: str, home: Path, block: Block, rounds: int) -> list[dict[str, Any]]:
    """One row for each engine of the network ``name``; those that it cannot be exported to are named in a note."""
    times = measured(exported(name, home), block, rounds)
    wall, cpu = (
        {label: statistics.median(getattr(one, kind)) for label, one in times.items()} for kind in ("wall", "cpu")
    )
    return [
        {
            "network": name,
            "engine": label,
            "calls": len(one.wall),
            "median ms": 1e3 * wall[label],
            "least ms": 1e3 * min(one.wall),
            "CPU ms": 1e3 * cpu[label],
            "times eager": wall[EAGER] / wall[label],
            "times eager, CPU": cpu[EAGER] / cpu[label],
        }
        for label, one in times.items()
    ]


def exported(name: str, home: Path) -> dict[str, tuple[str, Path | str]]:
    """Label to engine and file; PyTorch's "file" is the name or folder of the weights."""
    source = name
    if name not in shipped_names():  # its speed does not depend on its weights
        torch.manual_seed(0)
        source = str(home / name)
        save_weights(Path(source), network_entry(name).build(), "# not trained\n")
    sides: dict[str, tuple[str, Path | str]] = {EAGER: (EAGER, source)}
    eight_bits = network_entry(name).role == "edge"
    for to, file in FILES.items():
        for precision in ("fp32", "int8") if eight_bits and to != "torchscript" else ("fp32",):
            out = home / f"{name}-{to}-{precision}"
            try:
                if precision == "int8":
                    export_int8(source, to, out, count=2)
                else:
                    export_network(source, to, out)
            except FusionError as error:
                note(f"{name} is not measured in {to} {precision}: {error}")
                continue
            sides[to if precision == "fp32" else f"{to} int8"] = to, out / file
    return sides


def measured(sides: dict[str, tuple[str, Path | str]], block: Block, rounds: int) -> dict[str, Times]:
    """Every side's block, one process after the other, ``rounds`` times over."""
    times = {label: Times() for label in sides}
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for _ in range(rounds):
        for label, (engine, path) in sides.items():
            sizes = (*block.size, block.threads, block.runs, block.warm_up, block.seconds)
            command = [sys.executable, __file__, engine, str(path), *map(str, sizes)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=place)
            wall, cpu = json.loads(done.stdout.splitlines()[-1])
            times[label].wall += wall
            times[label].cpu += cpu
    return times


def verdict(rows: list[dict[str, Any]]) -> str:
    """The fastest engine of one network against its target at 640 x 480, by the clock."""
    best = min(rows, key=lambda row: row["median ms"])
    name = best["network"]
    said = f"{name}: fastest in {best['engine']}, {best['median ms']:.1f} ms, {best['times eager']:.2f} x PyTorch eager"
    if name in TARGET_MS:
        met = best["median ms"] <= TARGET_MS[name]
        return f"{said}; {TARGET_MS[name]:g} ms are aimed at: {'met' if met else 'not met'}"
    if name in TARGET_RATIO:
        met = best["times eager"] >= TARGET_RATIO[name]
        return f"{said}; {TARGET_RATIO[name]:g} x are aimed at: {'met' if met else 'not met'}"
    return said


def call_of(engine: str, path: str, size: tuple[int, int]) -> Callable[[], object]:
    """One fusion of a drawn pair."""
    visible, infrared = torch.rand(1, 3, *size), torch.rand(1, 1, *size)
    if engine == EAGER:
        network = load_weights(path).network
        return lambda: run(network, visible, infrared, None, None)
    ready = open_engine(engine, Path(path))
    return lambda: ready(visible, infrared, None)


def time_block(call: Callable[[], object], block: Block) -> Times:
    """Time ``call`` in this process."""
    start = time.perf_counter()
    for _ in range(block.warm_up):
        call()
        if time.perf_counter() - start > block.seconds / 4:
            break
    times = Times()
    start = time.perf_counter()
    while len(times.wall) < block.runs and (len(times.wall) < FEWEST or time.perf_counter() - start < block.seconds):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        times.wall.append(time.perf_counter() - wall)
        times.cpu.append(time.process_time() - cpu)
    return times


def main() -> None:
    """One block, for the process that asked."""
    keep_freed_memory()
    engine, path, height, width, threads, runs, warm_up, seconds = sys.argv[1:]
    size = int(height), int(width)
    block = Block(size=size, threads=int(threads), runs=int(runs), warm_up=int(warm_up), seconds=float(seconds))
    torch.set_num_threads(block.threads)
    times = time_block(call_of(engine, path, size), block)
    sys.stdout.write(json.dumps([times.wall, times.cpu]) + "\n")


if __name__ == "__main__":
    main()
