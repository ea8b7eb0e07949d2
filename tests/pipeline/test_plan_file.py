"""The plan's order holds from one group of rows to the next, when it is written and when it is read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet
import pytest

from pipeline.errors import StoreError
from pipeline.place import LocalPlace
from pipeline.plan import PlanRow, check_rows, pair_identity, plan_table
from pipeline.plan_file import Plan, write_plan
from pipeline.shards import PARQUET

SHARD = 2048  # pairs of a shard, which is then a group of its own


def row(position: int, key: str) -> PlanRow:
    hashes = hashlib.sha256(f"{position} first".encode()).hexdigest(), hashlib.sha256(b"second").hexdigest()
    return PlanRow(
        key=key,
        pair_id=pair_identity(*hashes),
        shard=position // SHARD,
        split="train",
        first=f"vi/{key}.png",
        second=f"ir/{key}.png",
        first_sha256=hashes[0],
        second_sha256=hashes[1],
        first_bytes=1,
        second_bytes=1,
        height=8,
        width=8,
    )


def rows(late: str) -> list[PlanRow]:
    """Two groups; the second one's first key is ``late``."""
    keys = [f"k{position:05d}" for position in range(SHARD)]
    return [row(position, key) for position, key in enumerate([*keys, late, "z"])]


def read(folder: Path, planned: Sequence[PlanRow]) -> list[PlanRow]:
    """Written without a check, as somebody else might, and read."""
    pyarrow.parquet.write_table(plan_table(planned), folder / "plan.parquet", row_group_size=SHARD, **PARQUET)
    digest = hashlib.sha256((folder / "plan.parquet").read_bytes()).hexdigest()
    return list(Plan(LocalPlace(folder), "plan.parquet", rows=len(planned), shard_size=SHARD, sha256=digest))


def test_a_plan_in_order_is_written_and_read(tmp_path: Path) -> None:
    planned = rows("l")
    assert write_plan(io.BytesIO(), planned, SHARD).rows == SHARD + 2
    assert [found.key for found in read(tmp_path, planned)] == [given.key for given in planned]


@pytest.mark.parametrize("late", ["a", "k00000", f"k{SHARD - 1:05d}"])
def test_a_key_of_the_group_before_is_refused(tmp_path: Path, late: str) -> None:
    with pytest.raises(StoreError, match=f"'{late}' is out of order or there twice"):
        write_plan(io.BytesIO(), rows(late), SHARD)
    with pytest.raises(StoreError, match=f"'{late}' is out of order or there twice"):
        read(tmp_path, rows(late))


@pytest.mark.parametrize(("keys", "said"), [("ba", "'a' is out of order"), ("aa", "'a' is there twice")])
def test_a_key_of_the_same_group_is_refused(keys: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        check_rows([row(position, key) for position, key in enumerate(keys)], "the plan", start=0, shard_size=SHARD)
