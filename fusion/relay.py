"""An iterator that is read ahead by a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(source: Iterable[Item], items: int) -> Generator[Item, None, None]:
    """Yield what ``source`` yields, in order, at most ``items`` made before they are asked for; its errors are raised here.

    Closing the generator waits for the item in hand and makes no other.
    """
    iterator = iter(source)
    end = object()
    pool = ThreadPoolExecutor(1)
    try:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(items))
        while True:
            item = waiting.popleft().result()
            if item is end:
                return
            waiting.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]  # not the end
    finally:
        pool.shutdown(cancel_futures=True)
