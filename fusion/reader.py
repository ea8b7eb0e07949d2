"""Training pairs out of a store: indexed reading, decoded once into memory as far as it goes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any, Protocol

import numpy as np

from fusion.augment import Bytes, Floats, centre_crop, draw_crop, generator
from fusion.batch import Batch, batch_of_one, collate
from fusion.drawn import Drawer
from fusion.losses import TERMS
from fusion.order import Order, digest_number
from fusion.recipe import Recipe
from pipeline.errors import InputError, StoreError
from pipeline.events import Event
from pipeline.guard import content_hash, refuse_test_content
from pipeline.images import read_image
from pipeline.plan import PlanRow
from pipeline.store import Header
from pipeline.task_file import load_task

AHEAD = 3  # batches read in advance
CHECKED_AT_START = 2000  # pairs
Said = tuple[tuple[Event, ...], str]  # the events and the scene sentence of a caption


class Shelf(Protocol):
    """What the reader needs of a store."""

    @property
    def name(self) -> str: ...
    @property
    def header(self) -> Header: ...
    def plan(self) -> Sequence[PlanRow]: ...
    def rows(self, prior: str, columns: Sequence[str] | None = None) -> Any: ...
    def fingerprint(self, prior: str) -> dict[str, Any]: ...
    def image_bytes(self, row: PlanRow) -> tuple[bytes, bytes]: ...


class Pairs:
    """The pairs of one store that are trained on, or held out for validation, with their texts and weights."""

    def __init__(
        self,
        shelf: Shelf,
        rows: Sequence[PlanRow],
        texts: Floats,
        weights: Floats,
        cache: Cache | None = None,
        said: Sequence[Said] | None = None,
        drawer: Drawer | None = None,
        guarded: set[str] | None = None,
        number: int = 0,
    ) -> None:
        self.shelf = shelf
        self.rows = list(rows)
        self.texts = texts
        self.weights = weights
        self.cache = cache or Cache(0)
        self.said = list(said) if said is not None else [((), "")] * len(self.rows)
        self.drawer = drawer
        self.guarded = guarded
        self.number = number  # the store's place among those that are trained on

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pair_ids(self) -> list[str]:
        """Identities, by content, in plan order."""
        return [row.pair_id for row in self.rows]

    @property
    def text_width(self) -> int:
        """Numbers in a text embedding."""
        return int(self.texts.shape[1])

    def subset(self, indices: Sequence[int]) -> Pairs:
        """Some of the pairs, sharing the cache."""
        chosen = copy(self)
        chosen.rows = [self.rows[index] for index in indices]
        chosen.said = [self.said[index] for index in indices]
        chosen.texts, chosen.weights = self.texts[list(indices)], self.weights[list(indices)]
        return chosen

    def pictures(self, index: int) -> tuple[Bytes, Bytes]:
        """Visible (H, W) or (H, W, 3) and infrared (H, W), uint8."""
        row = self.rows[index]
        key = (self.shelf.name, row.key)
        found = self.cache.get(key)
        if found is None:
            found = self.decode(row, *self.shelf.image_bytes(row))
            self.cache.put(key, found)
        return found

    def decode(self, row: PlanRow, first: bytes, second: bytes) -> tuple[Bytes, Bytes]:
        """Decode a pair's files. Raises InputError for a listed test pair, by its pixels, the first time it is seen."""
        pictures = [read_image(content, name=f"{row.key} in {self.shelf.name}") for content in (first, second)]
        if self.guarded is not None and row.pair_id not in self.guarded:
            refuse_test_content([content_hash(pictures[0], pictures[1])])
            self.guarded.add(row.pair_id)
        return pictures[0].eight_bit(), pictures[1].eight_bit(grey=True)

    def sample(self, index: int, visit: int, recipe: Recipe, pictures: tuple[Bytes, Bytes] | None = None) -> Batch:
        """One pair, cropped, augmented and perhaps degraded, as a batch of one: a function of (seed, visit, pair).

        ``pictures``: the decoded pair, where the caller has it already.
        """
        row = self.rows[index]
        random = generator(recipe.seed, visit, row.pair_id)
        clean = draw_crop(*(pictures or self.pictures(index)), recipe, random)
        seen, text, weights = clean, self.texts[index], self.weights[index]
        if self.drawer is not None and random.random() < recipe.degrade:
            degraded = self.drawer.draw(clean, *self.said[index], random)
            seen, text = degraded.crop, degraded.text
            weights = degraded.weights if recipe.weights == "prior" else weights
        return batch_of_one(row.key, seen, clean, text, weights, self.number)

    def centre(self, index: int, side: int) -> Batch:
        """The middle of a pair as a batch of one, for validation."""
        crop = centre_crop(*self.pictures(index), side)
        return batch_of_one(self.rows[index].key, crop, crop, self.texts[index], self.weights[index], self.number)


class Cache:
    """Decoded pictures up to a limit of bytes; first come, first kept, since every epoch visits all of them anyway."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._kept: dict[tuple[str, str], tuple[Bytes, Bytes]] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> tuple[Bytes, Bytes] | None:
        """The pair, if it is kept."""
        return self._kept.get(key)

    def put(self, key: tuple[str, str], pair: tuple[Bytes, Bytes]) -> None:
        """Keep the pair if there is room."""
        size = pair[0].nbytes + pair[1].nbytes
        with self._lock:
            if key not in self._kept and self.used + size <= self.limit:
                self._kept[key] = pair
                self.used += size


def open_pairs(shelf: Shelf, recipe: Recipe, cache: Cache | None = None, number: int = 0) -> tuple[Pairs, Pairs]:
    """The training pairs of a store and its held-out validation pairs, both from the split "train" alone.

    ``number``: the store's place among those that are trained on. Pairs whose caption failed are left out. Raises StoreError when no pair remains.
    """
    plan = shelf.plan()
    columns = ["status", "text_embedding", "loss_weights", *(["events", "scene"] if recipe.degrade else [])]
    table = shelf.rows(recipe.prior, columns=columns)
    good = [status == "ok" for status in table.column("status").to_pylist()]
    chosen = [index for index, row in enumerate(plan) if row.split == "train" and good[index]]
    if not chosen:
        splits = sorted({row.split for row in plan})
        raise StoreError(
            f"{shelf.name}: no pair of the split 'train' with a caption (splits here: {', '.join(splits)}; "
            f"{good.count(False)} captions failed); training never reads another split"
        )
    table = table.take(chosen)
    texts = np.array(table.column("text_embedding").to_pylist(), dtype=np.float32)
    weights = _weights(shelf, recipe, table.column("loss_weights").to_pylist())
    said, drawer = None, None
    if recipe.degrade:
        said = _said(table)
        task = load_task(shelf.header.task)
        drawer = Drawer(shelf.fingerprint(recipe.prior), task, shelf.header.modalities, shelf.name)
    rows = [plan[index] for index in chosen]
    pairs = Pairs(shelf, rows, texts, weights, cache=cache, said=said, drawer=drawer, guarded=set(), number=number)
    check_content(pairs, recipe.reader)
    held = held_out(pairs.pair_ids, recipe.validation_share, recipe.validation_pairs)
    return pairs.subset([i for i in range(len(pairs)) if i not in held]), pairs.subset(sorted(held))


def without(training: Sequence[Pairs], held: Sequence[Pairs]) -> list[Pairs]:
    """The training pairs of stores that are mixed: none that another store holds out, where both have it.

    Raises InputError for a store that has no other pairs.
    """
    aside = {pair_id for pairs in held for pair_id in pairs.pair_ids}
    kept = [pairs.subset([i for i, pair_id in enumerate(pairs.pair_ids) if pair_id not in aside]) for pairs in training]
    for pairs, before in zip(kept, training, strict=True):
        if len(before) and not len(pairs):
            raise InputError(
                f"{pairs.shelf.name}: another store holds out all of its pairs for validation; leave it out"
            )
    return kept


def check_content(pairs: Pairs, reader: str) -> None:
    """Refuse listed test pictures before training starts; in a large or streamed store when a pair is first read."""
    if len(pairs) <= (CHECKED_AT_START if reader == "indexed" else 0):
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(pairs.pictures, range(len(pairs))):
                pass


def held_out(pair_ids: Sequence[str], share: float, most: int) -> Collection[int]:
    """The validation slice: pairs with the smallest hash, at least one of two or more pairs unless share is 0."""
    if share <= 0 or len(pair_ids) < 2 or most < 1:
        return frozenset()
    number = min(max(1, round(share * len(pair_ids))), most, len(pair_ids) - 1)
    ranked = sorted(range(len(pair_ids)), key=lambda index: digest_number("validation", pair_ids[index]))
    return frozenset(ranked[:number])


class IndexedReader:
    """Batches by random access, in the global order, each process its own part of every batch."""

    def __init__(self, stores: Sequence[Pairs], recipe: Recipe, rank: int = 0, processes: int = 1) -> None:
        self.stores = stores
        self.recipe = recipe
        self.rank, self.processes = rank, processes
        self.order = Order(recipe.seed, [pairs.pair_ids for pairs in stores], recipe.shares, shuffle=recipe.shuffle)
        self.part = recipe.batch_size // (recipe.accumulation * processes)

    def positions(self, step: int) -> list[list[int]]:
        """Places in the global order that this process reads for a step, one list per accumulated part."""
        start = step * self.recipe.batch_size + self.rank * self.part
        stride = self.part * self.processes
        return [
            list(range(start + number * stride, start + number * stride + self.part))
            for number in range(self.recipe.accumulation)
        ]

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """The batches of steps ``first`` to ``last`` − 1, read ahead by ``recipe.workers`` threads."""
        if not self.recipe.workers:
            for step in range(first, last):
                yield [collate([self.sample(place) for place in part]) for part in self.positions(step)]
            return
        with ThreadPoolExecutor(self.recipe.workers, thread_name_prefix="reader") as pool:
            waiting: list[list[list[Future[Batch]]]] = []
            try:
                for step in range(first, last + AHEAD):
                    if step < last:
                        places = self.positions(step)
                        # The order is looked up here: its tables are not for several threads.
                        draws = [[self.order.at(place) for place in part] for part in places]
                        waiting.append(
                            [[pool.submit(self._drawn, d.store, d.index, d.visit) for d in part] for part in draws]
                        )
                    if step >= first + AHEAD and waiting:
                        yield [collate([f.result() for f in part]) for part in waiting.pop(0)]
                while waiting:
                    yield [collate([f.result() for f in part]) for part in waiting.pop(0)]
            finally:
                for parts in waiting:
                    for part in parts:
                        for future in part:
                            future.cancel()

    def sample(self, position: int) -> Batch:
        """The pair at a place of the global order, cropped and augmented, as a batch of one."""
        draw = self.order.at(position)
        return self._drawn(draw.store, draw.index, draw.visit)

    def _drawn(self, store: int, index: int, visit: int) -> Batch:
        return self.stores[store].sample(index, visit, self.recipe)


def _said(table: Any) -> list[Said]:
    events = table.column("events").to_pylist()
    scenes = table.column("scene").to_pylist()
    return [
        (tuple(Event(**event) for event in row or ()), scene or "") for row, scene in zip(events, scenes, strict=True)
    ]


def _weights(shelf: Shelf, recipe: Recipe, rows: list[dict[str, float]]) -> Floats:
    """(N, 5): the prior's own, the task's default, or the recipe's numbers for all."""
    if recipe.weights == "prior":
        return np.array([[row[name] for name in TERMS] for row in rows], dtype=np.float32)
    if isinstance(recipe.weights, str):
        task = load_task(shelf.header.task)
        fixed = task.events[task.default].weights.as_dict()
    else:
        fixed = recipe.weights
    return np.tile(np.array([fixed.get(name, 0.0) for name in TERMS], dtype=np.float32), (len(rows), 1))
