"""Which pair is drawn when: a pure function of seed and position, whatever the number of processes or restarts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One place of the global order: pair ``index`` of store ``store``, drawn for the ``visit``-th time (from 0)."""

    store: int
    index: int
    visit: int


def check_shares(shares: Sequence[float], stores: int) -> None:
    """Raise InputError unless ``shares`` is empty or has a number above 0 for each of so many stores."""
    if shares and (len(shares) != stores or not all(0 < share < math.inf for share in shares)):
        raise InputError(f"shares {list(shares)}: expected {stores} numbers above 0, one for each store")


def digest_number(*parts: object) -> int:
    """A number of 64 bits that depends on every part and on nothing else."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def shuffled(seed: int, epoch: int, pair_ids: Sequence[str]) -> list[int]:
    """The indices of ``pair_ids`` in the order of one epoch; each pair's place depends on the others' only by rank."""
    return sorted(range(len(pair_ids)), key=lambda index: (digest_number(seed, epoch, pair_ids[index]), index))


class Order:
    """The endless global order over one or several stores.

    An epoch has as many places as there are pairs. Each store gets its share of them (largest remainder) and goes
    through its own pairs in its own epochs, so every pair of a store is drawn before any is drawn again. Without ``shuffle`` pairs keep the order of the plan.
    """

    def __init__(
        self, seed: int, stores: Sequence[Sequence[str]], shares: Sequence[float] = (), *, shuffle: bool = True
    ) -> None:
        check_shares(shares, len(stores))
        if not all(stores):
            raise InputError("a store without training pairs cannot be drawn from")
        self.seed, self.shuffle = seed, shuffle
        self.stores = stores
        self.length = sum(map(len, stores))
        self.quotas = _quotas(self.length, list(shares) or [float(len(store)) for store in stores])
        self._epoch = lru_cache(maxsize=2)(self._drawn)  # reading ahead, two meet
        self._passes: dict[tuple[int, int], list[int]] = {}

    def at(self, position: int) -> Draw:
        """The draw at a place of the order, from 0."""
        epoch, place = divmod(position, self.length)
        return self._epoch(epoch)[place]

    def _drawn(self, epoch: int) -> list[Draw]:
        draws = [
            self._nth(store, epoch * quota + number)
            for store, quota in enumerate(self.quotas)
            for number in range(quota)
        ]
        if not self.shuffle:
            return draws
        return sorted(
            draws,
            key=lambda draw: digest_number(
                self.seed, epoch, draw.visit, self.stores[draw.store][draw.index], draw.store
            ),
        )

    def _nth(self, store: int, number: int) -> Draw:
        visit, place = divmod(number, len(self.stores[store]))
        if (store, visit) not in self._passes:
            self._passes = {key: value for key, value in self._passes.items() if key[0] != store}
            ids = self.stores[store]
            self._passes[store, visit] = shuffled(self.seed, visit, ids) if self.shuffle else list(range(len(ids)))
        return Draw(store=store, index=self._passes[store, visit][place], visit=visit)


def _quotas(length: int, shares: list[float]) -> list[int]:
    exact = [length * share / sum(shares) for share in shares]
    quotas = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda index: (quotas[index] - exact[index], index))
    for index in by_remainder[: length - sum(quotas)]:
        quotas[index] += 1
    if min(quotas) == 0:
        raise InputError(f"shares {shares}: one of them is too small to draw a single pair in an epoch of {length}")
    return quotas
