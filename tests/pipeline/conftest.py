"""Small drawn pairs for the tests of stage one, and a tiny model that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chat_server import Reply, Server
from pipeline.captioners.base import CaptionRequest
from pipeline.console import set_quiet
from pipeline.images import Picture
from tiny_qwen import build_tiny_qwen

DrawPairs = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def _no_progress_bars() -> None:
    set_quiet(True)


@pytest.fixture
def draw_pairs(tmp_path: Path) -> DrawPairs:
    """Write ``count`` pairs of different small images into ``vi`` and ``ir`` below ``tmp_path``; the two folders."""

    def draw(count: int, *, size: tuple[int, int] = (24, 32), folder: str = "data") -> tuple[Path, Path]:
        first, second = tmp_path / folder / "vi", tmp_path / folder / "ir"
        for path in (first, second):
            path.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            rng = np.random.default_rng(number)
            colour = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(colour).save(first / f"p{number:04d}.png")
            Image.fromarray(colour[:, :, 0]).save(second / f"p{number:04d}.png")
        return first, second

    return draw


@pytest.fixture(scope="session")
def qwen_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2-VL."""
    pytest.importorskip("transformers")
    return build_tiny_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def qwen_pairs() -> list[CaptionRequest]:
    """Three pairs of noise; one has a side under the 28 pixels that crash the model's image processor."""
    generator = np.random.default_rng(0)
    sizes = [(96, 128), (200, 120), (20, 64)]
    return [
        CaptionRequest(
            key=f"k{n}",
            pair_id=str(n),
            first=Picture(pixels=generator.integers(0, 256, (*size, 3), dtype=np.uint8)),
            second=Picture(pixels=generator.integers(0, 256, size, dtype=np.uint8)),
        )
        for n, size in enumerate(sizes)
    ]


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
