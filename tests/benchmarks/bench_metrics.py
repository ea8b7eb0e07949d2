"""CPU-seconds per metric on one 640 x 480 colour triple; run as ``python tests/benchmarks/bench_metrics.py``.

Each metric is timed alone (its own grey images, nothing remembered), then the eight usual ones and the default set
together, then a second fused image on the same sources. Process time, one thread, median of several runs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from fusion.metrics import DEFAULT_NAMES
from fusion.score import available_names, prepare, score, score_fused

EIGHT = ("EN", "SF", "SD", "AG", "MI", "VIF", "Qabf", "SSIM")


def triple(height: int = 480, width: int = 640) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth textures with noise, whole numbers, the first and the last in colour."""
    rng = np.random.default_rng(0)

    def texture(channels: int) -> np.ndarray:
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, channels, height // 16, width // 16)))
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).numpy()
        return np.clip(fine + rng.normal(0, 3, fine.shape), 0, 255).astype(np.uint8)

    first, second = texture(3), texture(1)[:, :, 0]
    return first, second, ((first.astype(int) + second[:, :, None] + 1) // 2).astype(np.uint8)


def cpu_seconds(work: Callable[[], object], runs: int) -> float:
    """Median process time of ``work``, after one warm-up."""
    work()
    spent = []
    for _ in range(runs):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    images = triple()
    sources = prepare(*images[:2])

    def spent(names: Sequence[str]) -> float:
        return cpu_seconds(lambda: score(*images, names=names), runs)

    rows = [(name, spent([name])) for name in available_names("standard")]
    rows += [("the eight", spent(EIGHT)), ("default set", spent(DEFAULT_NAMES))]
    rows.append(("all of them together", spent(available_names("standard"))))
    rows.append(("default set, sources known", cpu_seconds(lambda: score_fused(sources, images[2]), runs)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        score(*images)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print("| metric | CPU-seconds, 640 × 480 |\n|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {seconds:.3f} |")
    print(f"\npeak memory {before / 1024:.0f} MiB; 20 triples more added {grown:.0f} MiB")


if __name__ == "__main__":
    main()
