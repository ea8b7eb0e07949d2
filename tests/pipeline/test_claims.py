"""Claims: renewed while they are held, taken from the dead alone, and given back only by their owner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline import claims
from pipeline.claims import Claims
from pipeline.errors import FusionError
from pipeline.job import Job, JobSpec, Progress
from pipeline.place import LocalPlace
from pipeline.runners import RUNNERS, local
from stores import caption, contents

NAME = "logs/claims/shard-000003.json"


DIES = """
import os, sys
from pipeline.claims import Claims
from pipeline.place import place
claims = Claims(place(sys.argv[1]))
taken = [claims.take(int(shard)) for shard in sys.argv[2:]]
os._exit(0 if all(taken) else 1)
"""


def take_and_die(home: Path, *shards: int) -> None:
    """Another process claims shards and is gone, without giving them back."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", DIES, str(home), *map(str, shards)], check=True, env=environment)


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


def test_a_claim_of_another_machine_holds_for_two_minutes_without_renewal(tmp_path: Path) -> None:
    """Twelve renewals long: a machine that breathes heavily keeps its shard, one that died is not waited for."""
    away, here = Claims(LocalPlace(tmp_path)), Claims(LocalPlace(tmp_path))
    assert away.take(3)
    away.close()
    assert away.take(3), "a claim that was given back is free"
    change(tmp_path / NAME, host="elsewhere", pid=1, renewed=time.time() - 110)
    assert not here.take(3)
    change(tmp_path / NAME, renewed=time.time() - 130)
    assert here.take(3)
    here.close()


def test_work_whose_claim_was_lost_is_dropped(tmp_path: Path, draw_pairs: Any) -> None:
    """A process that slept too long while another took its shard writes neither rows nor marker over that one's."""
    store = tmp_path / "s"
    caption(store, draw_pairs(2), plan_only=True)
    spec = JobSpec(
        store=str(store),
        prior="text",
        root=str(tmp_path / "data"),
        task="ivf",
        captioner="scripted",
        embedder="hashing",
    )
    job, told = Job(spec), []

    def taken_over(step: Progress) -> None:
        told.append(step)
        change(store / "logs/claims/shard-000000.json", token="another's")

    job.finish(0, taken_over)
    job.settle()
    job.close()
    assert [(step.pairs, step.finished) for step in told] == [(2, False)]
    assert [path.name for path in (store / "priors/text").iterdir()] == ["fingerprint.json"]
    assert json.loads((store / "logs/claims/shard-000000.json").read_text())["token"] == "another's"


def test_what_a_process_left_that_died_behind_its_commit_is_swept(tmp_path: Path) -> None:
    """Its shard is done, so nobody takes the claim again. The living and other hosts keep theirs."""
    take_and_die(tmp_path, 1, 3)
    mine = Claims(LocalPlace(tmp_path))
    assert mine.take(2)
    change(tmp_path / NAME, host="elsewhere")
    Claims(LocalPlace(tmp_path)).sweep()
    left = sorted(file.name for file in (tmp_path / "logs/claims").iterdir())
    assert left == ["shard-000002.json", "shard-000003.json"]
    mine.close()


def test_a_run_sweeps_the_claim_of_a_shard_that_is_done(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    store = tmp_path / "s"
    (store / "priors/text/shard-000001.json").unlink()
    take_and_die(store, 0)
    assert list((store / "logs/claims").iterdir())
    caption(store, folders, shard_size=2)
    assert not list((store / "logs/claims").iterdir())


def claim_elsewhere(store: Path, shard: int, renewed: float) -> Path:
    """Shard 1 of two is undone, and a process of another host has it."""
    for ending in ("parquet", "json"):
        (store / f"priors/text/shard-{shard:06d}.{ending}").unlink()
    file = store / f"logs/claims/shard-{shard:06d}.json"
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "x", "renewed": renewed}))
    return file


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_run_waits_for_what_others_have_and_takes_over_from_the_dead(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch, retry_failed: bool
) -> None:
    """Exit code 0 means that all of the run's shards are done."""
    monkeypatch.setattr(local, "LOOK_EVERY", 0.05)
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    before = contents(tmp_path / "s")
    claim_elsewhere(tmp_path / "s", 1, time.time() - claims.STALE_AFTER + 1)
    assert caption(tmp_path / "s", folders, retry_failed=retry_failed).done == 2
    assert contents(tmp_path / "s") == before


def test_a_run_that_waits_does_not_do_again_what_the_other_finishes(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    shutil.copytree(tmp_path / "s/priors/text", tmp_path / "done")
    file = claim_elsewhere(tmp_path / "s", 1, time.time() + 1000)
    looks: list[float] = []

    def other_finishes(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            shutil.copytree(tmp_path / "done", tmp_path / "s/priors/text", dirs_exist_ok=True)
            file.unlink()

    monkeypatch.setattr(local.time, "sleep", other_finishes)
    assert caption(tmp_path / "s", folders, do_stop_at="p0002").done == 2
    assert len(looks) == 3


def test_a_member_of_an_array_waits_for_its_own_shards_alone(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    claim_elsewhere(tmp_path / "s", 1, time.time() + 1000)
    assert caption(tmp_path / "s", folders, rank=0, world_size=2).done == 1


def test_a_run_that_leaves_a_shard_undone_fails(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=2)
    claim_elsewhere(tmp_path / "s", 1, 0)
    monkeypatch.setitem(RUNNERS, "local", lambda _: nullcontext(lambda *_: None))
    with pytest.raises(FusionError, match="1 shard of prior 'text' unfinished, the first is 1: .*run the same command"):
        caption(tmp_path / "s", folders)


INSIDE = """
import sys
from pipeline.claims import Claims
from pipeline.place import place
home = place(sys.argv[1])
home.sweep()
claims = Claims(home)
claims.sweep()
with home.writer("inside"):
    print(claims.take(3), claims.take(4), flush=True)
    sys.stdin.read()
    claims.close()
"""


def test_a_container_of_the_same_host_name_is_another_host(tmp_path: Path) -> None:
    """Process numbers mean something else in it: nobody there is this process, and this one must not seem dead there."""
    alone = ["unshare", "--map-root-user", "--fork", "--pid", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and the right to use it, to make a namespace of process numbers")
    home = LocalPlace(tmp_path)
    outside = Claims(home)
    assert outside.take(3)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    words = [*alone, sys.executable, "-c", INSIDE, str(tmp_path)]
    with home.writer("outside"):
        inside = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert inside.stdout is not None
        assert inside.stdout.readline() == "False True\n"
        assert not outside.take(4)
        outside.sweep()
        home.sweep()
        assert len(list((tmp_path / "logs/claims").iterdir())) == 2
        inside.communicate(timeout=60)
    assert inside.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside", "logs", "outside"]
    outside.close()
