"""What every network costs: parameters, GFLOP, latency and peak memory, and the straightforward version beside the fast.

    python tests/benchmarks/bench_nets.py                                    # the defaults; a few minutes on two idle cores
    python tests/benchmarks/bench_nets.py --network student --size 480x640 --runs 5 --no-train
    python tests/benchmarks/bench_nets.py --network edge --network nano --dtype bfloat16

The fast and the straightforward version of a network run in turn, in one process, so that other work on the machine slows
both; CPU time counts what a busy machine's clock does not. A training line is one step, forward and backward, on four
crops of 128 x 128, the paper's batch. Peak memory comes from a fresh process each (resident set, less what the
libraries take before the first pair). Every call is made once untimed, at its own size.

The paper's networks are measured twice: with the allocator as PyTorch comes ("as it comes"), and with freed memory kept for the
next call, as `fusioncli` does (`pipeline.allocator`), by both versions ("kept"). The straightforward version, which moves more
memory, gains most by that.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusion.catalog import network_entry
from fusion.cost import count_gflops, count_parameters, peak_resident
from fusion.engines import open_engine
from fusion.export import export_network, export_path
from fusion.network import FusionNetwork
from pipeline.allocator import keep_freed_memory
from pipeline.console import emit_json, set_quiet, show_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fusion" / "oracles"))
from straightforward import straightforward

HEADER = (
    "network", "version", "size", "dtype", "engine", "freed memory", "parameters", "GFLOP", "median ms", "CPU ms", "peak MiB",
    "speed-up", "peak ratio",
)  # fmt: skip
AS_IT_COMES, KEPT = "as it comes", "kept"
CROPS = 4  # in a training step
SIZES = ((256, 256), (480, 640))
CROP = (128, 128)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Sizes = tuple[int, int]


def build(name: str, version: str) -> nn.Module:
    """The catalogue's network, or its straightforward twin."""
    torch.manual_seed(0)
    network = network_entry(name).build()
    return straightforward(network) if version == "straightforward" else network


def inputs(network: nn.Module, size: Sizes, batch: int = 1) -> list[torch.Tensor]:
    """Random pairs, with text vectors for a teacher. The straightforward twin wants sides that divide by 64."""
    if not hasattr(network, "multiple"):
        size = (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
    pair = [torch.rand(batch, 3, *size), torch.rand(batch, 1, *size)]
    width = getattr(getattr(network, "config", None), "text_width", None)
    return [*pair, torch.zeros(batch, width)] if width else pair


def forward(network: nn.Module, size: Sizes, dtype: str) -> Callable[[], None]:
    """One inference."""
    network.eval()
    arguments = inputs(network, size)

    def call() -> None:
        with torch.inference_mode(), torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"):
            network(*arguments)

    return call


def step(network: nn.Module, size: Sizes, dtype: str) -> Callable[[], None]:
    """One forward and backward pass of a batch."""
    network.train()
    arguments = inputs(network, size, CROPS)

    def call() -> None:
        network.zero_grad()
        with torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"):
            loss = network(*arguments).float().square().mean()
        loss.backward()

    return call


def interleaved(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds of each call, medians over ``runs``; the calls take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
    return {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in times.items()
    }


def peak(*what: str | int) -> float:
    """MiB that one call adds to a fresh process; network, version, height, width, whether it trains, dtype."""
    command = [sys.executable, __file__, f"--threads={torch.get_num_threads()}", "--peak", *map(str, what)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, version: str, size: Sizes, train: bool, dtype: str) -> None:
    """The other half of ``peak``."""
    network = build(name, version)
    prepare = step if train else forward
    prepare(network, (64, 64), dtype)()
    call = prepare(network, size, dtype)
    before = peak_resident()
    call()
    sys.stdout.write(f"{peak_resident() - before:.0f}\n")


def rows(name: str, size: Sizes, runs: int, train: bool, dtype: str, freed: str) -> list[tuple[Any, ...]]:
    """The lines of one network at one size: the fast version and, for the paper's networks, the straightforward one."""
    networks = {"fast": build(name, "fast")}
    if isinstance(networks["fast"], FusionNetwork):
        networks["straightforward"] = build(name, "straightforward")
    prepare = step if train else forward
    calls = {version: prepare(network, size, dtype) for version, network in networks.items()}
    for call in calls.values():
        call()
    times = interleaved(calls, runs if "straightforward" in networks else 10 * runs)
    memory = {version: peak(name, version, *size, int(train), dtype) for version in networks}
    gflops = count_gflops(network_entry(name).build(), size) * (3 * CROPS if train else 1)
    what = f"{CROPS} x {size[1]}x{size[0]} training" if train else f"{size[1]}x{size[0]}"
    slow = times.get("straightforward")
    found = []
    for version, network in networks.items():
        wall, cpu = times[version]
        against = ["", ""]
        if slow and version == "fast":
            against = [f"{slow[0] / wall:.2f}x", f"{memory[version] / memory['straightforward']:.2f}"]
        cost = (count_parameters(network), round(gflops, 2), short(wall), short(cpu), round(memory[version]))
        found.append((name, version, what, dtype, "torch", freed, *cost, *against))
    return found


def engine_rows(name: str, sizes: Sequence[Sizes], runs: int) -> list[tuple[Any, ...]]:
    """The shipped network ``name`` in the engines it can be exported to."""
    found = []
    network = network_entry(name).build()
    with tempfile.TemporaryDirectory() as folder:
        for engine in ("onnx", "openvino"):
            out = Path(folder) / engine
            export_network(name, engine, out)
            fuse = open_engine(engine, export_path(out, engine))
            for size in sizes:
                call = partial(fuse, torch.rand(1, 3, *size), torch.rand(1, 1, *size), None)
                call()
                times = interleaved({engine: call}, 10 * runs)
                wall, cpu = map(short, times[engine])
                cost = (count_parameters(network), round(count_gflops(network_entry(name).build(), size), 2), wall, cpu)
                found.append((name, "fast", f"{size[1]}x{size[0]}", "float32", engine, KEPT, *cost, "", "", ""))
    return found


def short(milliseconds: float) -> float:
    """One decimal below 100."""
    return round(milliseconds, 1) if milliseconds < 100 else round(milliseconds)


def parse_size(text: str) -> Sizes:
    """HEIGHTxWIDTH."""
    height, width = text.split("x")
    return int(height), int(width)


def processor() -> str:
    """What the operating system calls the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="one of `fusioncli nets`; may be repeated")
    parser.add_argument("--size", action="append", type=parse_size, help="HEIGHTxWIDTH; may be repeated")
    parser.add_argument("--runs", type=int, default=3, help="timed calls a line; ten times as many for small networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--no-train", action="store_true", help="no training steps")
    parser.add_argument("--no-engines", action="store_true", help="PyTorch alone")
    parser.add_argument("--json", help="write the table as JSON to this file (- is standard output)")
    parser.add_argument("--peak", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        name, version, height, width, train, dtype = options.peak
        print_peak(name, version, (int(height), int(width)), train == "1", dtype)
        return
    set_quiet(True)
    sizes = options.size or SIZES
    names = options.network or ["student", "edge", "nano"]
    table: list[tuple[Any, ...]] = []

    def measure(name: str, freed: str) -> None:
        for size in sizes:
            table.extend(rows(name, size, options.runs, False, options.dtype, freed))
        if not options.no_train:
            table.extend(rows(name, CROP, options.runs, True, options.dtype, freed))

    for name in names:
        if network_entry(name).role != "edge":
            measure(name, AS_IT_COMES)
    keep_freed_memory()  # from here on; it cannot be undone
    for name in names:
        measure(name, KEPT)
        if network_entry(name).role == "edge" and not options.no_engines:
            table += engine_rows(name, sizes, options.runs)
    if options.json:
        emit_json([dict(zip(HEADER, row, strict=True)) for row in table], options.json)
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{processor()}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()})"
    title = f"{machine}, {options.threads} threads, PyTorch {torch.__version__}, load average {load}"
    show_table(title, HEADER, table)


if __name__ == "__main__":
    main()
