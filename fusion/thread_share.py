"""Several pictures fused at the same time, each by its share of the CPU's threads.

Two threads on one picture wait for each other at the end of every layer, and whoever decodes or encodes beside them makes
both wait. One thread on each of two pictures waits for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch

from pipeline.errors import InputError

AT_ONCE = 2  # pictures, and as many times the memory of one


def usual() -> int:
    """How many pictures a CPU fuses at once unless it is told otherwise."""
    return min(AT_ONCE, torch.get_num_threads())


def check_at_once(at_once: Any) -> None:
    """Raises InputError for what is no number of pictures from one on; None leaves the choice open."""
    if at_once is not None and (isinstance(at_once, bool) or not isinstance(at_once, Integral) or at_once < 1):
        raise InputError(f"at_once is {at_once!r}, expected a number of pictures from 1 on")


def share(at_once: int) -> int:
    """The threads one of ``at_once`` pictures gets of those PyTorch is set to."""
    return max(1, torch.get_num_threads() // at_once)


@contextmanager
def fusing_threads(at_once: int) -> Iterator[ThreadPoolExecutor]:
    """``at_once`` threads in which PyTorch, or an engine opened for so many, uses its share of the CPU."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(at_once, "fusing", torch.set_num_threads, (share(at_once),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # what threads to come will begin with; this one never changed
