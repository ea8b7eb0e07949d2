"""What a network costs: parameters, floating-point operations, latency, peak memory."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import FusionError

VGA = (480, 640)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds over ``runs`` calls after a warm-up."""

    median: float
    p95: float
    runs: int
    threads: int


def count_parameters(network: nn.Module) -> int:
    """All of them, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_gflops(network: nn.Module, size: tuple[int, int] = VGA) -> float:
    """10⁹ floating-point operations (two a multiply-add) of one pair of H x W; shapes alone, nothing is computed.

    Counted: convolutions, matrix products, attention. Not counted: pointwise work.
    """
    from torch.utils.flop_counter import FlopCounterMode

    shadow = network.to(device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(*_inputs(shadow, size, "meta"))
    return float(counter.get_total_flops()) / 1e9


def measure_latency(network: nn.Module, size: tuple[int, int] = VGA, runs: int = 10, warmup: int = 2) -> Latency:
    """Time one pair of H x W on the network's device, with torch's current number of threads."""
    device = next(network.parameters()).device
    inputs = _inputs(network, size, str(device))
    times = []
    with torch.inference_mode():
        for index in range(warmup + runs):
            begin = time.perf_counter()
            network(*inputs)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if index >= warmup:
                times.append((time.perf_counter() - begin) * 1e3)
    times.sort()
    p95 = times[min(len(times) - 1, round(0.95 * (len(times) - 1)))]
    return Latency(median=statistics.median(times), p95=p95, runs=runs, threads=torch.get_num_threads())


def measure_peak_memory(name: str, size: tuple[int, int] = VGA) -> float:
    """MiB that fusing one pair adds to a fresh process of the catalogue's network ``name`` (CPU, float32)."""
    command = [sys.executable, "-m", "fusion.cost", name, str(size[0]), str(size[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FusionError(f"measuring the memory of {name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)


def peak_resident() -> float:
    """MiB of memory that this process has held at most.

    From Linux's own count for the program: the usual call, which others have to do with, starts from what the parent
    held when it began this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) / 1024
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept / 2**20 if sys.platform == "darwin" else kept / 1024


def _inputs(network: nn.Module, size: tuple[int, int], device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    visible = torch.rand(1, 3, *size, generator=generator).to(device)
    infrared = torch.rand(1, 1, *size, generator=generator).to(device)
    width = getattr(getattr(network, "config", None), "text_width", None)
    return (visible, infrared, torch.zeros(1, width, device=device)) if width else (visible, infrared)


def _main(name: str, height: int, width: int) -> None:
    from fusion.catalog import network_entry

    network = network_entry(name).build().eval()
    with torch.inference_mode():
        network(*_inputs(network, (64, 64), "cpu"))  # libraries load on first use; they are not the network's memory
        before = peak_resident()
        network(*_inputs(network, (height, width), "cpu"))
    sys.stdout.write(f"{peak_resident() - before:.1f}\n")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
