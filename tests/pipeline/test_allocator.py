"""Freed memory that is kept: shown by the page faults of a process of its own."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline import allocator

CHILD = """
import resource, sys
import numpy as np
from pipeline.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.ones(1 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}  # a fixed start, whatever glibc learns
    command = [sys.executable, "-c", CHILD, how]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(answer.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    assert faults("default") > 5000  # 50 arrays of 256 pages; numpy asks for huge pages from 4 MiB on
    assert faults("keep") < 100


def test_where_there_is_no_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not allocator.keep_freed_memory()


def test_an_old_glibc_takes_the_smaller_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def mallopt(option: int, size: int) -> int:
        asked.append((option, size))
        return int(option != allocator.M_MMAP_THRESHOLD or size <= 1 << 25)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    assert allocator.keep_freed_memory()
    assert asked == [(-1, 1 << 30), (-3, 1 << 30), (-3, 1 << 25)]
