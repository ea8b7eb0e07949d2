"""What every network costs: parameters, GFLOP, latency and peak memory, and the straightforward version beside the fast.

    python tests/benchmarks/bench_nets.py                                    # the defaults; a few minutes on two idle cores
    python tests/benchmarks/bench_nets.py --network student --size 480x640 --threads 2 --runs 5
    python tests/benchmarks/bench_nets.py --network student --train          # forward + backward at 128x128 as well

The fast and the straightforward version of a network run in turn, in one process, so that other work on the machine
slows both; peak memory comes from a fresh process each (resident set, less what the libraries take before the first pair).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusion.catalog import network_entry
from fusion.cost import count_gflops, count_parameters
from fusion.network import FusionNetwork
from pipeline.console import emit_json, show_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fusion" / "oracles"))
from straightforward import straightforward

HEADER = ("network", "version", "size", "dtype", "engine", "parameters", "GFLOP", "median ms", "CPU ms", "peak MiB")
Sizes = tuple[int, int]


def build(name: str, version: str) -> nn.Module:
    """The catalogue's network, or its straightforward twin."""
    torch.manual_seed(0)
    network = network_entry(name).build()
    return straightforward(network) if version == "straightforward" else network


def inputs(network: nn.Module, size: Sizes) -> list[torch.Tensor]:
    """One random pair, with a text vector for a teacher. The straightforward twin wants sides that divide by 64."""
    if not hasattr(network, "multiple"):
        size = (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64)
    pair = [torch.rand(1, 3, *size), torch.rand(1, 1, *size)]
    width = getattr(getattr(network, "config", None), "text_width", None)
    return [*pair, torch.zeros(1, width)] if width else pair


def forward(network: nn.Module, size: Sizes) -> Callable[[], None]:
    """One inference."""
    network.eval()
    arguments = inputs(network, size)

    def call() -> None:
        with torch.inference_mode():
            network(*arguments)

    return call


def step(network: nn.Module, size: Sizes) -> Callable[[], None]:
    """One forward and backward pass."""
    network.train()
    arguments = inputs(network, size)

    def call() -> None:
        network.zero_grad()
        network(*arguments).square().mean().backward()

    return call


def interleaved(calls: dict[str, Callable[[], None]], runs: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU milliseconds of each call; one warm-up, then in turn."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if run:
                times[name].append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
    return {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in times.items()
    }


def peak(name: str, version: str, size: Sizes, train: bool) -> float:
    """MiB that one call adds to a fresh process."""
    command = [sys.executable, __file__, "--peak", name, version, str(size[0]), str(size[1]), str(int(train))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, version: str, size: Sizes, train: bool) -> None:
    """The other half of ``peak``."""
    network = build(name, version)
    prepare = step if train else forward
    prepare(network, (64, 64))()
    call = prepare(network, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    sys.stdout.write(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f}\n")


def rows(name: str, size: Sizes, runs: int, train: bool) -> list[tuple[Any, ...]]:
    """The lines of one network at one size."""
    networks = {"fast": build(name, "fast")}
    if isinstance(networks["fast"], FusionNetwork):
        networks["straightforward"] = build(name, "straightforward")
    prepare = step if train else forward
    times = interleaved({version: prepare(network, size) for version, network in networks.items()}, runs)
    gflops = count_gflops(network_entry(name).build(), size)
    what = f"{size[1]}x{size[0]}" + (" training" if train else "")
    found = []
    for version, network in networks.items():
        wall, cpu = (round(value, 1) for value in times[version])
        cost = (count_parameters(network), round(gflops, 2), wall, cpu, peak(name, version, size, train))
        found.append((name, version, what, "float32", "torch", *cost))
    return found


def parse_size(text: str) -> Sizes:
    """HEIGHTxWIDTH."""
    height, width = text.split("x")
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", help="one of `fusioncli nets`; may be repeated")
    parser.add_argument("--size", action="append", type=parse_size, help="HEIGHTxWIDTH; may be repeated")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", action="store_true", help="training steps at 128x128 too")
    parser.add_argument("--json", help="write the table as JSON to this file (- is standard output)")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        name, version, height, width, train = options.peak
        print_peak(name, version, (int(height), int(width)), train == "1")
        return
    table: list[tuple[Any, ...]] = []
    for name in options.network or ["student", "edge", "nano"]:
        for size in options.size or [(256, 256), (480, 640)]:
            table += rows(name, size, options.runs, train=False)
        if options.train and network_entry(name).role != "edge":
            table += rows(name, (128, 128), options.runs, train=True)
    if options.json:
        emit_json([dict(zip(HEADER, row, strict=True)) for row in table], options.json)
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{platform.machine()}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()})"
    title = f"{machine}, {options.threads} threads, PyTorch {torch.__version__}, load average {load}"
    show_table(title, HEADER, table)


if __name__ == "__main__":
    main()
