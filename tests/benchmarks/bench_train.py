"""How fast the training loop runs, and how much of it is waiting for data: real pairs against random tensors.

    python tests/benchmarks/bench_train.py                          # on drawn pairs of 640 x 480, networks nano and edge
    python tests/benchmarks/bench_train.py --store stores/roadscene --network student --steps 60

Both lines run the same loop (`fusion.loop`), once on the store and once on one random batch made beforehand. Steps
before the first log line are warm-up and not counted; validation and checkpoints come after the last step.

Freed memory is kept for the next call, as in `fusioncli` (`pipeline.allocator`).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from fusion import loop, training
from fusion.batch import Batch
from fusion.losses import TERMS
from fusion.reader import IndexedReader, Pairs
from fusion.recipe import Recipe, load_recipe
from fusion.run import read_log
from pipeline.allocator import keep_freed_memory
from pipeline.captioning import CaptionOptions, Source, caption_pairs
from pipeline.console import emit_json, set_quiet, show_table
from pipeline.manifest import load_manifest
from pipeline.pairs import find_pairs
from pipeline.synth import draw_pairs

HEADER = ("network", "data", "batch", "crop", "steps/s", "images/s", "waiting for data", "relative to random")


class RandomReader:
    """The same random batch at every step: a loop that never waits."""

    def __init__(self, stores: Sequence[Pairs], recipe: Recipe, rank: int = 0, processes: int = 1) -> None:
        number, side = recipe.batch_size // (recipe.accumulation * processes), recipe.crop
        generator = torch.Generator().manual_seed(0)
        visible = torch.rand(number, 3, side, side, generator=generator)
        infrared = torch.rand(number, 1, side, side, generator=generator)
        self.parts = [
            Batch(
                keys=("random",) * number,
                visible=visible,
                infrared=infrared,
                target_visible=visible,
                target_infrared=infrared,
                weights=torch.ones(number, len(TERMS)),
                text=torch.rand(number, stores[0].text_width, generator=generator),
                store=torch.zeros(number, dtype=torch.int64),
            )
        ] * recipe.accumulation

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batch, again and again."""
        for _ in range(first, last):
            yield self.parts


def measure(recipe: Recipe, store: str, reader: type) -> dict[str, float]:
    """Steps a second, images a second and waiting share over all steps but the warm-up."""
    loop.IndexedReader = reader  # type: ignore[misc,assignment]
    with tempfile.TemporaryDirectory() as folder:
        training.start_run(recipe, [store], Path(folder) / "run")
        records = [record for record in read_log(Path(folder) / "run") if "loss" in record][1:]
    loop.IndexedReader = IndexedReader  # type: ignore[misc]
    seconds = sum(record["seconds"] for record in records)
    waited = sum(record["seconds"] * record["data_wait"] for record in records)
    steps = len(records) * recipe.log_every
    return {"steps": steps / seconds, "images": steps * recipe.batch_size / seconds, "wait": waited / seconds}


def drawn_store(folder: Path) -> str:
    """A store of drawn pairs, measured captions and hashed texts."""
    draw_pairs(folder / "synthetic", 40, 0, height=480, width=640)
    manifest = load_manifest("synthetic")
    source = Source(manifest=manifest, pairs=find_pairs(manifest, folder), root=folder)
    caption_pairs(CaptionOptions(store=str(folder / "store"), captioner="measured", embedder="hashing"), source)
    return str(folder / "store")


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="a store with training pairs; default: 40 drawn ones")
    parser.add_argument("--network", action="append", help="a name of `fusioncli nets`; may be repeated")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], help="key=value over the recipe")
    parser.add_argument("--json", help="also write the rows here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    set_quiet(True)
    rows: list[list[Any]] = []
    folder = tempfile.TemporaryDirectory()
    store = options.store or drawn_store(Path(folder.name))
    for network in options.network or ["nano", "edge"]:
        every = max(1, options.steps // 6)
        settings = [
            f"network={network}",
            f"steps={options.steps}",
            f"batch_size={options.batch}",
            f"crop={options.crop}",
        ]
        settings += [
            f"log_every={every}",
            f"shares_every={10**9}",
            f"checkpoint_every={10**9}",
            f"validate_every={10**9}",
        ]
        settings += ["validation_share=0", "loss.features=0", "loss.output=0", *options.set]
        base = "edge" if network in ("edge", "nano") else "paper-ivf"
        recipe = load_recipe(base, "student", settings)
        random, real = (measure(recipe, store, reader) for reader in (RandomReader, IndexedReader))
        for data, found in (("random tensors", random), ("store", real)):
            share = found["images"] / random["images"]
            speed = [round(found["steps"], 2), round(found["images"], 1)]
            rows.append([network, data, options.batch, options.crop, *speed, f"{found['wait']:.1%}", f"{share:.1%}"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    show_table(f"training loop: {device}, {options.threads} threads, PyTorch {torch.__version__}", HEADER, rows)
    if options.json:
        emit_json([dict(zip(HEADER, row, strict=True)) for row in rows], options.json)


if __name__ == "__main__":
    main()
