"""What can be benchmarked: classical baselines and networks with weights (fused_folder: images fused elsewhere)."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.baselines import BASELINES, Baseline, luma
from fusion.catalog import NETWORKS, build_network
from fusion.results import SOURCES, Cost, Kind, MethodCard, spoken
from fusion.tiling import run
from fusion.weights import load_weights, recipe_of
from pipeline.errors import InputError
from pipeline.images import Picture
from pipeline.pairs import Pair
from pipeline.store import DEFAULT_PRIOR, Store
from pipeline.words import shown

Pixels = NDArray[np.uint8]
COSTLY = 100.0  # GFLOP a pair; above it one timed run must do on a CPU


class Method(Protocol):
    """A way to a fused image."""

    @property
    def card(self) -> MethodCard:
        """What it is."""
        ...

    @property
    def identity(self) -> str | None:
        """What decides its images beside the pair, as text; None where they may be anything (a folder)."""
        ...

    def fuse(self, pair: Pair, visible: Picture, infrared: Picture) -> Pixels | None:
        """The fused image, (H, W) or (H, W, 3) uint8; None where a folder lacks it."""
        ...

    def cost(self) -> Cost | None:
        """What it costs; None for a folder."""
        ...


def as_batch(pixels: Pixels) -> Tensor:
    """(1, 1 or 3, H, W) float32 of 0..1."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.array(planes, order="C")).float().div(255)[None]


def as_pixels(batch: Tensor) -> Pixels:
    """The inverse of ``as_batch`` for the first image of a batch of any precision, clamped and rounded."""
    planes = batch[0].detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(planes[0] if planes.shape[0] == 1 else planes.transpose(1, 2, 0))


@dataclass(frozen=True)
class BaselineMethod:
    """A method of ``fusion.baselines``; a source left untouched is named by its modality."""

    baseline: Baseline
    modalities: tuple[str, str] = SOURCES

    @property
    def card(self) -> MethodCard:
        name, title = self.baseline.name, self.baseline.title
        kind: Kind = "baseline"
        if name in SOURCES:
            kind, title = "source", f"{spoken(self.modalities[SOURCES.index(name)])} alone"
        return MethodCard(name=name, title=title, kind=kind, source=self.baseline.source)

    @property
    def identity(self) -> str:
        return f"baseline {self.baseline.name} {baselines_digest()}"

    def fuse(self, pair: Pair, visible: Picture, infrared: Picture) -> Pixels | None:
        del pair
        with torch.inference_mode():
            return as_pixels(self.baseline.fuse(as_batch(visible.eight_bit()), as_batch(infrared.eight_bit(grey=True))))

    def cost(self) -> Cost:
        visible, infrared = torch.rand(1, 3, 480, 640), torch.rand(1, 1, 480, 640)
        times = []
        for _ in range(6):
            begin = time.perf_counter()
            self.baseline.fuse(visible, infrared)
            times.append((time.perf_counter() - begin) * 1e3)
        times = sorted(times[1:])
        return Cost(
            parameters=0,
            gflops=None,
            latency_ms=times[len(times) // 2],
            latency_p95_ms=times[-1],
            warmup=1,
            runs=len(times),
            threads=torch.get_num_threads(),
            device="cpu",
            peak_mib=None,
        )


class NetworkMethod:
    """A network with its weights; a teacher must be given texts (``give_texts``)."""

    def __init__(self, name: str, source: str | Path, *, device: str = "cpu") -> None:
        self.name = name
        self.weights = load_weights(source)
        self.network = self.weights.network.to(device)
        self.device = device
        self.code = _code_of(self.network)
        self.texts: Mapping[tuple[str, str], Tensor] | None = None
        self.text_source: str | None = None

    @property
    def text_width(self) -> int:
        """Width of the text embeddings that the network is conditioned on; 0 for one without a text."""
        return getattr(getattr(self.network, "config", None), "text_width", None) or 0

    @property
    def takes_text(self) -> bool:
        """Whether the network has a text condition."""
        return bool(self.text_width)

    @property
    def prior(self) -> str:
        """The prior of the stores that the network was trained on, as its run says."""
        return str(recipe_of(self.weights).get("prior", DEFAULT_PRIOR))

    @property
    def card(self) -> MethodCard:
        text = (self.text_source or "none given") if self.takes_text else None
        return MethodCard(
            name=self.name,
            title=self.name,
            kind="network",
            source=self.weights.name,
            digest=self.weights.sha256,
            text=text,
        )

    @property
    def identity(self) -> str:
        card = self.card
        made_by = {"sha256": card.digest, "text": card.text, "source": card.source, "code": self.code}
        return json.dumps(made_by, indent=2) + "\n"

    def fuse(self, pair: Pair, visible: Picture, infrared: Picture) -> Pixels | None:
        text = self._text(pair)
        batch = as_batch(visible.eight_bit()).to(self.device)
        fused = run(
            self.network, batch.expand(-1, 3, -1, -1), as_batch(infrared.eight_bit(grey=True)).to(self.device), text
        )
        if batch.shape[1] == 1:
            fused = luma(fused)
        return as_pixels(fused)

    def give_texts(self, texts: Mapping[tuple[str, str], Tensor], source: str, pairs: Sequence[Pair]) -> None:
        """Condition on ``texts``, embeddings by the digests of a pair's files, from the store ``source``.

        Raises InputError where it lacks one of ``pairs``.
        """
        digests = {pair.stem: (file_digest(pair.first), file_digest(pair.second)) for pair in pairs}
        lacking = [stem for stem, files in digests.items() if files not in texts]
        if lacking:
            raise InputError(
                f"{self.name}: {len(lacking)} of {len(pairs)} pairs have no text in {source}: {shown(lacking)}; caption "
                "the split that is benchmarked, or name another folder of stores with --stores"
            )
        used = torch.stack([texts[files] for files in digests.values()])
        self.texts = texts
        self.text_source = f"{source}, SHA-256 {hashlib.sha256(used.numpy().tobytes()).hexdigest()[:16]}"

    def _text(self, pair: Pair) -> Tensor | None:
        if self.texts is None:
            return None
        return self.texts[file_digest(pair.first), file_digest(pair.second)][None].to(self.device)

    def cost(self) -> Cost:
        from fusion.cost import count_gflops, count_parameters, measure_latency, measure_peak_memory

        config = self.network.config
        gflops = count_gflops(build_network(config))  # type: ignore[arg-type]
        slow = gflops > COSTLY and self.device == "cpu"
        warmup = 0 if slow else 2
        latency = measure_latency(self.network, runs=1 if slow else 10, warmup=warmup)
        known = [name for name, entry in NETWORKS.items() if entry.config == config]
        return Cost(
            parameters=count_parameters(self.network),
            gflops=gflops,
            latency_ms=latency.median,
            latency_p95_ms=latency.p95,
            warmup=warmup,
            runs=latency.runs,
            threads=latency.threads,
            device=self.device,
            peak_mib=measure_peak_memory(known[0]) if known and not slow and self.device == "cpu" else None,
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _code_of(network: torch.nn.Module) -> str:
    """Digest of the source of a network's layers and of what cuts and blends its tiles: another version fuses again."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in code_files(network))).hexdigest()


def code_files(network: torch.nn.Module) -> list[Path]:
    """The source files that decide a network's fused images."""
    names = {kind.__module__ for module in network.modules() for kind in type(module).__mro__}
    files = {getattr(sys.modules[name], "__file__", None) for name in names if name.split(".")[0] == "fusion"}
    shared = ("tiling.py", "bands.py", "colour.py", "shared_statistics.py", "window_attention.py", "windows.py")
    return sorted({Path(file) for file in files if file} | {Path(__file__).parent / name for name in shared})


@cache
def baselines_digest() -> str:
    """Digest of the source that the baselines are made of: another version of it fuses again."""
    sources = (Path(__file__).parent / name for name in ("baselines.py", "pyramids.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def baseline_methods(modalities: tuple[str, str]) -> list[Method]:
    """All of them, in the table's order."""
    return [BaselineMethod(baseline, modalities) for baseline in BASELINES.values()]


def stored_texts(store: Path, prior: str = DEFAULT_PRIOR) -> dict[tuple[str, str], Tensor]:
    """Text embeddings of a store's prior by the SHA-256 of both files of the pair; a failed caption has none.

    Raises StoreError where the store has no such prior or it is not finished.
    """
    opened = Store.open(store)
    vectors = opened.rows(prior, columns=["text_embedding"])["text_embedding"].to_pylist()
    return {
        (row.first_sha256, row.second_sha256): torch.tensor(vector, dtype=torch.float32)
        for row, vector in zip(opened.plan(), vectors, strict=True)
        if vector is not None
    }
