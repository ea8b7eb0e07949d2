"""Memory does not grow with the number of pairs: a million has to go through the same machine as a thousand."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.pairs import pair_folders
from pipeline.place import LocalPlace
from pipeline.plan import PlanRow, pair_identity
from pipeline.plan_file import GROUP, Plan, WrittenPlan, write_plan

SHARD = 128


def rows(count: int) -> Iterator[PlanRow]:
    for number in range(count):
        hashes = sha256(b"%d" % number).hexdigest(), sha256(b"-%d" % number).hexdigest()
        yield PlanRow(
            key=f"{number:08d}",
            pair_id=pair_identity(*hashes),
            shard=number // SHARD,
            split="train",
            first=f"vi/{number:08d}.png",
            second=f"ir/{number:08d}.png",
            first_sha256=hashes[0],
            second_sha256=hashes[1],
            first_bytes=1000 + number,
            second_bytes=513,
            height=8,
            width=8,
        )


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_longer_plan_takes_no_more_memory(tmp_path: Path) -> None:
    """Python's own memory; Arrow holds one group of rows outside of it."""
    written: dict[int, WrittenPlan] = {}

    def write(count: int) -> None:
        with (tmp_path / f"{count}.parquet").open("w+b") as file:
            written[count] = write_plan(file, rows(count), SHARD)

    def read(count: int) -> None:
        home = LocalPlace(tmp_path)
        plan = Plan(home, f"{count}.parquet", rows=count, shard_size=SHARD, sha256=written[count].sha256)
        assert sum(row.width for row in plan) == 8 * count
        assert plan[count - 1].key == f"{count - 1:08d}"

    small, large = 3 * GROUP, 9 * GROUP
    for work in (write, read):
        work(small)  # what is loaded once is loaded
        before, after = peak(lambda work=work: work(small)), peak(lambda work=work: work(large))  # type: ignore[misc]
        assert after < before + 300_000, f"{work.__name__}: {before} bytes at {small} rows, {after} at {large}"


def test_a_plan_reads_back_what_was_written_in_any_order(tmp_path: Path) -> None:
    count = 2 * GROUP + 3
    with (tmp_path / "plan.parquet").open("w+b") as file:
        found = write_plan(file, rows(count), SHARD)
    plan = Plan(LocalPlace(tmp_path), "plan.parquet", rows=count, shard_size=SHARD, sha256=found.sha256)
    assert (found.rows, len(plan)) == (count, count)
    wanted = list(rows(count))
    assert [row.key for row in plan] == [row.key for row in wanted]
    for place in (0, GROUP - 1, GROUP, count - 1, -1):
        assert plan[place].first_sha256 == wanted[place].first_sha256
    shard = plan[GROUP - SHARD : GROUP]
    assert [row.shard for row in shard] == [GROUP // SHARD - 1] * SHARD
    sizes = [512 * (1 + -(-row.first_bytes // 512)) + 512 * (1 + 2) for row in shard]
    assert [row.offset for row in shard] == np.cumsum([0, *sizes[:-1]]).tolist()
    with pytest.raises(IndexError):
        plan[count]


def test_a_listed_pair_costs_little_more_than_its_name(tmp_path: Path) -> None:
    count = 2000
    for name in ("vi", "ir"):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number:08d}.png").touch()
    kept: list[object] = []
    assert peak(lambda: kept.append(pair_folders(tmp_path / "vi", tmp_path / "ir"))) < 1000 * count
    tracemalloc.start()
    kept.append(pair_folders(tmp_path / "vi", tmp_path / "ir"))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 300 * count


@pytest.mark.slow
def test_the_peak_of_a_whole_run_hardly_grows(tmp_path: Path) -> None:
    """Slow because it captions 4,400 pairs. Every pair once cost 6 KB."""
    peaks = []
    for count in (400, 4000):
        home = tmp_path / str(count)
        for name in ("vi", "ir"):
            (home / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((8, 8), number % 251, dtype=np.uint8)
                pixels[0, 0] = number // 251
                Image.fromarray(pixels).save(home / name / f"{number:06d}.bmp")
        command = [sys.executable, "-m", "cli", "--quiet", "caption", "--pairs", str(home / "vi"), str(home / "ir")]
        command += ["--captioner", "measured", "--embedder", "hashing", "--workers", "1", "--store", str(home / "s")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert peaks[1] < peaks[0] + 12, f"MiB at 400 and 4,000 pairs: {peaks}"
