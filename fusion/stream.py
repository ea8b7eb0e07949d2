"""Streaming batches out of a store's tar shards by WebDataset: for stores larger than the machine, local or remote.

Every process reads its own shards from front to back (split by node) and shuffles within a window, so each batch holds
the next pairs that its process finds, and the number of steps is fixed: a process whose shards run out starts them
again, so uneven shards never leave another one waiting. Resuming is statistical: a resumed run sees the same data in
another order. Where exactness matters use the indexed reader.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fusion.batch import Batch, collate
from fusion.order import check_shares, digest_number
from fusion.reader import AHEAD, Pairs
from fusion.recipe import Recipe
from pipeline.errors import InputError, StoreError
from pipeline.place import place
from pipeline.shards import tar_name

WINDOW = 256  # pairs among which the order is shuffled


class StreamReader:
    """The batches of one process. Without ``recipe.shuffle`` the pairs come in the order of the plan."""

    def __init__(self, stores: Sequence[Pairs], recipe: Recipe, rank: int = 0, processes: int = 1) -> None:
        check_shares(recipe.shares, len(stores))
        self.stores = stores
        self.recipe = recipe
        self.rank, self.processes = rank, processes
        self.part = recipe.batch_size // (recipe.accumulation * processes)
        self.places = [{row.key: index for index, row in enumerate(pairs.rows)} for pairs in stores]
        for pairs in stores:
            shards = shards_of(pairs)
            if len(shards) < processes:
                raise InputError(
                    f"{pairs.shelf.name}: {len(shards)} shards with training pairs for {processes} processes; stream with "
                    "fewer processes, make the store with a smaller --shard-size, or use --reader indexed"
                )

    def steps(self, first: int, last: int) -> Iterator[list[Batch]]:
        """Exactly ``last − first`` steps of batches, read ahead by one thread."""
        samples = self._mixed(first)
        with ThreadPoolExecutor(1, thread_name_prefix="stream") as pool:
            waiting = deque(pool.submit(self._step, samples) for _ in range(min(AHEAD, last - first)))
            for _ in range(first, last):
                batches = waiting.popleft().result()
                waiting.append(pool.submit(self._step, samples))
                yield batches
            for future in waiting:
                future.cancel()

    def _step(self, samples: Iterator[Batch]) -> list[Batch]:
        return [collate([next(samples) for _ in range(self.part)]) for _ in range(self.recipe.accumulation)]

    def _mixed(self, first: int) -> Iterator[Batch]:
        """Samples of all stores, drawn by their shares."""
        sources = [self._samples(number, first) for number in range(len(self.stores))]
        shares = list(self.recipe.shares) or [float(len(pairs)) for pairs in self.stores]
        choose = random.Random(digest_number("stream", self.recipe.seed, self.rank, first))
        while True:
            yield next(sources[choose.choices(range(len(sources)), shares)[0] if len(sources) > 1 else 0])

    def _samples(self, number: int, first: int) -> Iterator[Batch]:
        """The training pairs of one store, again and again; ``first`` seeds order and crops anew after a resume."""
        pairs, places = self.stores[number], self.places[number]
        visit = 0
        while True:
            fresh = visit if not first else digest_number("visit", first, visit)  # crops that were not seen before
            for sample in self._pass(pairs, visit, first):
                index = places.get(sample["__key__"])
                if index is None:  # a pair of another split, held out, or without a caption
                    continue
                pictures = pairs.decode(pairs.rows[index], *members(sample, pairs))
                yield pairs.sample(index, fresh, self.recipe, pictures)
            visit += 1

    def _pass(self, pairs: Pairs, visit: int, first: int) -> Iterator[Mapping[str, Any]]:
        """One pass over this process's shards by WebDataset's tar reader."""
        import webdataset

        where = place(pairs.shelf.name)
        shards = shards_of(pairs)
        if self.recipe.shuffle:
            shards.sort(key=lambda shard: digest_number("shards", self.recipe.seed, visit, first, shard))
        mine = shards[self.rank :: self.processes]  # split by node
        streams = ({"url": name, "stream": where.open(name)} for name in map(tar_name, mine))
        samples: Iterator[Mapping[str, Any]] = webdataset.tariterators.group_by_keys(
            webdataset.tariterators.tar_file_expander(streams, handler=webdataset.handlers.reraise_exception)
        )
        if not self.recipe.shuffle:
            return samples
        seed = random.Random(digest_number("window", self.recipe.seed, visit, first, self.rank))
        shuffled: Iterator[Mapping[str, Any]] = webdataset.filters.shuffle(WINDOW, initial=WINDOW, rng=seed)(samples)
        return shuffled


def shards_of(pairs: Pairs) -> list[int]:
    """The shards that hold at least one of the pairs."""
    return sorted({row.shard for row in pairs.rows})


def members(sample: Mapping[str, Any], pairs: Pairs) -> tuple[bytes, bytes]:
    """The bytes of both images of a WebDataset sample. Raises StoreError when one is missing."""
    found = []
    for modality in pairs.shelf.header.modalities:
        content = [value for name, value in sample.items() if name.split(".")[0] == modality]
        if len(content) != 1 or not isinstance(content[0], bytes):
            raise StoreError(f"{pairs.shelf.name}: shard member {sample['__key__']}.{modality}.* is missing or double")
        found.append(content[0])
    return found[0], found[1]
