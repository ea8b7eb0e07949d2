"""What the page does with two images: decode, fuse with the chosen weights and engine, score, keep the result."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fusion.alignment import STRICT, Fit
from fusion.demo.shelf import Item, Shelf
from fusion.demo.wording import page_words
from fusion.engines import ENGINES
from fusion.export import FILES, export_network
from fusion.fused_image import LONGEST, SUFFIXES, encode, save_fused
from fusion.inference import Fuser, read_checked
from fusion.score import Scores, score
from fusion.weights import read_config
from pipeline.atomic import atomic_path
from pipeline.errors import ImageError, InputError
from pipeline.images import Picture, probe_image, read_image

MAX_PIXELS = 40_000_000  # of one image: what a laptop fuses without tiles
METRICS = ("VIF", "Qabf", "SSIM", "EN", "SF", "AG")
LOADED = 4  # networks kept in memory
TILES = (0, 256, 512, 1024)
Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which network fuses, by which engine, in tiles of how many pixels (0: whole)."""

    weights: str
    engine: str = "torch"
    tile: int = 0


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fused image on the shelf: its size in pixels, milliseconds of fusing alone, scores.

    ``sources`` are the two images that it lies on: those given, or what aligning made of them.
    """

    item: Item
    sources: tuple[Item, Item]
    height: int
    width: int
    milliseconds: float
    scores: Scores


class Workbench:
    """Fuses one pair at a time: two at once would only take the cores from each other.

    ``weights`` maps the names that may be chosen to what ``load_weights`` takes: nothing else is ever loaded. A folder that
    holds other weights by now, because a training ended there, is loaded anew.
    """

    def __init__(self, shelf: Shelf, weights: Mapping[str, str]) -> None:
        self.shelf = shelf
        self.weights = dict(weights)
        self._fusers: OrderedDict[tuple[Choice, str], Fuser] = OrderedDict()
        self._busy = threading.Lock()

    def check_image(self, item: Item) -> tuple[int, int]:
        """Height and width of an uploaded image, decoded once. Raises ImageError in the words of its name."""
        content = item.path.read_bytes()
        info = probe_image(content, name=item.name)
        if info.height * info.width > MAX_PIXELS:
            raise ImageError(
                f"{item.name}: {info.width} x {info.height} pixels; this page takes {MAX_PIXELS // 1_000_000} million, "
                "`fusioncli fuse --tile 512` takes more"
            )
        read_image(content, name=item.name)
        return info.size

    def preview(self, item: Item) -> Item:
        """The image as an 8-bit PNG that every browser shows."""
        shown = item.path.with_name(f"{item.token}.shown.png")
        if not shown.is_file():
            picture = read_image(item.path, name=item.name)
            save_fused(shown, picture.as_rgb(), picture)
        return Item(token=item.token, name=f"{Path(item.name).stem}.png", path=shown)

    def fuse(self, first: Item, second: Item, choice: Choice, asked: Fit = STRICT) -> Fused:
        """Fuse two uploaded images, brought together as asked. Raises FusionError in the page's words."""
        with page_words({first.path: first.name, second.path: second.name}):
            fitted = read_checked(first.path, second.path, asked)
        visible, infrared = fitted.visible, fitted.infrared
        sources = (first, second)
        if fitted.transform is not None:
            sources = (self._keep(visible, first.name, "aligned"), self._keep(infrared, second.name, "aligned"))
        elif asked.resize:
            sources = (first, self._keep(infrared, second.name, "scaled"))
        picture, milliseconds = self.borrow(choice, lambda fuser: _timed(fuser, visible, infrared))
        item = self.shelf.place(f"{Path(first.name).stem}-fused.png")
        save_fused(item.path, picture, visible)
        fused = np.rint(picture * 255).astype(np.uint8)
        with self._busy:  # scoring has the number of threads changed, which is for the whole process
            scores = score(visible.eight_bit(), infrared.eight_bit(), fused, names=METRICS)
        height, width = visible.size
        return Fused(item=item, sources=sources, height=height, width=width, milliseconds=milliseconds, scores=scores)

    def borrow(self, choice: Choice, work: Callable[[Fuser], Done]) -> Done:
        """``work`` with the chosen network, once whatever is running has ended. Raises InputError, WeightsError."""
        with self._busy:
            return work(self._fuser(choice))

    def download(self, item: Item, suffix: str) -> Path:
        """A fused image in another format. Raises InputError for one that is not offered or cannot hold its size."""
        kind = SUFFIXES.get(suffix)
        if kind is None:
            raise InputError(f"no format {suffix!r}; there are {', '.join(SUFFIXES)}")
        path = item.path.with_suffix(suffix)
        if not path.is_file():
            picture = read_image(item.path, name=item.name)
            height, width = picture.size
            longest = LONGEST.get(kind, max(height, width))
            if max(height, width) > longest:
                size = f"{width} x {height} pixels"
                raise InputError(f"{item.name}: {size}, and {kind} holds {longest} a side; choose png or tiff")
            with atomic_path(path) as temporary:
                encode(temporary, replace(picture, pixels=picture.eight_bit()), kind)
        return path

    def _keep(self, picture: Picture, name: str, how: str) -> Item:
        item = self.shelf.place(f"{Path(name).stem} {how}.png")
        save_fused(item.path, picture.as_rgb(), picture)
        return item

    def _fuser(self, choice: Choice) -> Fuser:
        if choice.weights not in self.weights:
            raise InputError(f"no weights {choice.weights!r}; there are {', '.join(self.weights)}")
        if choice.engine not in ("torch", *ENGINES):
            raise InputError(f"no engine {choice.engine!r}; there are torch, {', '.join(ENGINES)}")
        if choice.tile not in TILES:
            raise InputError(f"no tile of {choice.tile!r} pixels; there are {', '.join(map(str, TILES))}")
        source = self.weights[choice.weights]
        digest = str(read_config(Path(source)).get("sha256")) if Path(source).is_dir() else ""
        if (choice, digest) not in self._fusers:
            self._fusers[choice, digest] = self._load(choice, source, digest)
            if len(self._fusers) > LOADED:
                self._fusers.popitem(last=False)
        self._fusers.move_to_end((choice, digest))
        return self._fusers[choice, digest]

    def _load(self, choice: Choice, source: str, digest: str) -> Fuser:
        if choice.engine == "torch":
            return Fuser.from_pretrained(source, tile=choice.tile or None)
        parts = str(list(self.weights).index(choice.weights)), choice.engine, digest[:16]
        exported = self.shelf.folder / "exported" / "-".join(filter(None, parts))
        name = f"{choice.weights} for {choice.engine}"
        with page_words({exported / FILES[choice.engine]: name, exported: name}):
            if not (exported / "export.json").is_file():
                export_network(source, choice.engine, exported)
            return Fuser.from_pretrained(exported, engine=choice.engine, tile=choice.tile or None)


def _timed(fuser: Fuser, visible: Picture, infrared: Picture) -> tuple[NDArray[np.float32], float]:
    began = time.perf_counter()
    fused = fuser.fuse_pictures(visible, infrared)
    return fused, 1000 * (time.perf_counter() - began)
