"""Claims: renewed while they are held, taken from the dead alone, and given back only by their owner."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline import claims
from pipeline.claims import Claims
from pipeline.place import LocalPlace

NAME = "logs/claims/shard-000003.json"


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_a_claim_is_renewed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEWED_EVERY", 0.01)
    mine, file = Claims(LocalPlace(tmp_path)), tmp_path / NAME
    assert mine.take(3)
    first, deadline = json.loads(file.read_text()), time.monotonic() + 20
    while json.loads(file.read_text())["renewed"] == first["renewed"] and time.monotonic() < deadline:
        time.sleep(0.01)
    renewed = json.loads(file.read_text())
    assert renewed["renewed"] > first["renewed"]
    assert {**renewed, "renewed": 0} == {**first, "renewed": 0}
    mine.close()
    assert not file.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells when a process was born by /proc")
def test_a_living_process_under_a_dead_ones_number_does_not_hold_its_claim(tmp_path: Path) -> None:
    dead, other = Claims(LocalPlace(tmp_path)), Claims(LocalPlace(tmp_path))
    assert dead.take(3)
    assert not other.take(3), "this process lives, and was born when the claim says"
    change(tmp_path / NAME, born="1")
    assert other.take(3)
    dead.close()
    other.close()


def test_a_claim_that_another_has_taken_over_is_left_to_it(tmp_path: Path) -> None:
    slept = Claims(LocalPlace(tmp_path))
    assert slept.take(3)
    change(tmp_path / NAME, token="another's")
    slept.release(3)
    assert json.loads((tmp_path / NAME).read_text())["token"] == "another's"
    slept.close()
    assert (tmp_path / NAME).exists()
