"""Verifying a store sees every kind of damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption


@pytest.mark.parametrize("victim", ["images/shard-000000.tar", "priors/text/shard-000001.parquet", "plan.parquet"])
def test_verify_sees_one_flipped_bit(tmp_path: Path, draw_pairs: Any, victim: str) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=4)
    path = tmp_path / "s" / victim
    for position in (700, path.stat().st_size // 2):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        try:
            problems = verify(Store.open(tmp_path / "s")).problems
        except StoreError as error:
            problems = [str(error)]
        assert any(Path(victim).name in problem for problem in problems)
        content[position] ^= 1
        path.write_bytes(content)
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_verify_sees_what_is_missing_and_what_is_too_much(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=4)
    (tmp_path / "s/priors/text/shard-000001.json").unlink()
    (tmp_path / "s/images/shard-000009.tar").write_bytes(b"x")
    problems = verify(Store.open(tmp_path / "s")).problems
    assert any("shard-000001.json: missing" in problem for problem in problems)
    assert any("shard-000009.tar: not part" in problem for problem in problems)
    with pytest.raises(StoreError, match="unfinished: 1 of 2"):
        Store.open(tmp_path / "s").rows()
