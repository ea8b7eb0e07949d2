"""Never lost, never twice: kills, full disks, dying workers, several processes on one store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.claims import Claims
from pipeline.place import LocalPlace
from pipeline.store import Store
from pipeline.verify import verify

REPOSITORY = Path(__file__).resolve().parents[2]


def contents(store: Path) -> dict[str, str]:
    files = [path for path in store.rglob("*") if path.is_file() and "logs" not in path.relative_to(store).parts]
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(store: Path, folders: tuple[Path, Path], *settings: str, options: tuple[str, ...] = ()) -> list[str]:
    chosen = ["--captioner", "scripted", "--embedder", "hashing", "--shard-size", "5", "--max-failed", "100%"]
    sets = [word for setting in settings for word in ("--set", setting)]
    pairs = ["--pairs", str(folders[0]), str(folders[1])]
    return [sys.executable, "-m", "cli", "--quiet", "caption", *pairs, "--store", str(store), *chosen, *sets, *options]


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process: subprocess.Popen[str], timeout: float = 280) -> tuple[int, str]:
    output, errors = process.communicate(timeout=timeout)
    return process.returncode, output + errors


def run(arguments: list[str], **options: Any) -> tuple[int, str]:
    return finish(start(arguments, **options))


@pytest.mark.slow
def test_ten_kills_leave_no_trace(tmp_path: Path, draw_pairs: Any) -> None:
    """Ten lives end at random moments of their work. Slow because every life starts Python anew."""
    folders = draw_pairs(150)
    assert run(command(tmp_path / "calm", folders, "fail=0.1"))[0] == 0
    store, dice = tmp_path / "killed", random.Random(7)
    for life in range(10):  # of 30 shards at least one more is done in each life, and never all
        process = start(command(store, folders, "fail=0.1", "delay=0.03"))
        wait_for_shards(store, process, life)
        time.sleep(dice.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
    assert run(command(store, folders, "fail=0.1"))[0] == 0
    assert verify(Store.open(store)).problems == []
    assert contents(store) == contents(tmp_path / "calm")
    assert not list((store / "logs/claims").iterdir())
    assert not list((store / "logs/unfinished").iterdir())


def wait_for_shards(store: Path, process: subprocess.Popen[str], count: int) -> None:
    """Until the process works on a shard and ``count`` are done."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        for claim in (store / "logs/claims").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                mine = json.loads(claim.read_text())["pid"] == process.pid
                if mine and len(list((store / "priors/text").glob("shard-*.json"))) >= count:
                    return
        time.sleep(0.005)
    raise AssertionError(f"it did not come to shard {count}: {finish(process)}")


@pytest.mark.slow
def test_a_kill_before_any_file_operation_leaves_no_trace(tmp_path: Path, draw_pairs: Any) -> None:
    """Slow because there are some sixty of them."""
    folders = draw_pairs(3)
    script = [sys.executable, str(Path(__file__).with_name("kill_points.py"))]
    code, output = finish(start([*script, str(tmp_path), str(folders[0]), str(folders[1])]), timeout=850)
    assert code == 0, output
    found = json.loads(output)
    assert found["points"] > 30
    assert found == {"points": found["points"], "bad": [], "whole": True}


def test_a_kill_in_the_middle_leaves_no_trace(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(17)
    assert run(command(tmp_path / "calm", folders))[0] == 0
    assert run(command(tmp_path / "s", folders, "die_at=p0012"))[0] == -signal.SIGKILL
    assert list((tmp_path / "s/logs/claims").iterdir())
    assert Store.open(tmp_path / "s").finished("text") == [0, 1]
    code, output = run(command(tmp_path / "s", folders))
    assert code == 0, output
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


def test_a_back_end_that_is_gone_stops_the_run_and_loses_nothing(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(17)
    code, output = run(command(tmp_path / "s", folders, "stop_at=p0012"))
    assert (code, output.count("\n")) == (1, 1)
    assert "told to" in output
    assert Store.open(tmp_path / "s").finished("text") == [0, 1]
    assert run(command(tmp_path / "s", folders))[0] == 0
    assert verify(Store.open(tmp_path / "s")).problems == []


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_replaced(tmp_path: Path, draw_pairs: Any) -> None:
    """Slow because it starts seven processes. Every replacement dies at the same pair, so in the end the run gives up."""
    folders = draw_pairs(17)
    code, output = run(command(tmp_path / "s", folders, "die_at=p0012", options=("--workers", "2")))
    assert code == 1
    assert "workers keep dying" in output
    assert "--workers" in output
    assert set(Store.open(tmp_path / "s").finished("text")) == {0, 1, 3}


def test_two_processes_share_one_store(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(40)
    arguments = command(tmp_path / "s", folders, "delay=0.02")
    both = [start(arguments), start(arguments)]
    assert [finish(process)[0] for process in both] == [0, 0]
    store = Store.open(tmp_path / "s")
    assert verify(store).problems == []
    logs = [json.loads(path.read_text()) for path in (tmp_path / "s/logs").glob("run-*.json")]
    assert sum(log.get("pairs", 0) for log in logs) == 40, "every pair was captioned exactly once"


def test_ranks_divide_the_shards(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(20)
    array = {"SLURM_ARRAY_TASK_COUNT": "2"}
    for rank, done in (("1", [1, 3]), ("0", [0, 1, 2, 3])):
        environment = {**os.environ, **array, "SLURM_ARRAY_TASK_ID": rank, "PYTHONPATH": str(REPOSITORY)}
        assert subprocess.run(command(tmp_path / "s", folders), env=environment, check=False).returncode == 0
        assert Store.open(tmp_path / "s").finished("text") == done
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_a_full_disk_is_one_sentence_and_costs_nothing(tmp_path: Path, draw_pairs: Any) -> None:
    """A limit on file size stands for the full disk: the write of the second, larger shard fails half-way."""
    folders = draw_pairs(17)
    assert run(command(tmp_path / "calm", folders))[0] == 0
    big = (tmp_path / "calm/images/shard-000000.tar").stat().st_size

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (big - 1, big - 1))

    code, output = run(command(tmp_path / "s", folders), preexec_fn=limited)
    assert code == 1
    assert output.startswith("fusioncli: ")
    assert output.count("\n") == 1
    assert not list((tmp_path / "s/logs/unfinished").iterdir())
    assert not (tmp_path / "s/images/shard-000000.tar").exists()
    assert run(command(tmp_path / "s", folders))[0] == 0
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


def test_a_claim_holds_and_a_dead_ones_claim_falls(tmp_path: Path) -> None:
    mine, other = Claims(LocalPlace(tmp_path)), Claims(LocalPlace(tmp_path))
    assert mine.take(3)
    assert not other.take(3)
    mine.release(3)
    assert other.take(3)
    path = tmp_path / "logs/claims/shard-000003.json"
    owner = json.loads(path.read_text())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    path.write_text(json.dumps({**owner, "pid": dead.pid, "token": "x"}))
    assert mine.take(3)
    path.write_text(json.dumps({**owner, "host": "elsewhere", "renewed": time.time() - 3600}))
    assert not mine.is_mine(3)
    assert mine.take(3)
    path.write_text(json.dumps({**owner, "host": "elsewhere", "renewed": time.time()}))
    assert not mine.take(3)
    mine.close()
    other.close()


def test_missing_back_ends_say_what_to_install(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(2)
    arguments = command(tmp_path / "s", folders)
    arguments[arguments.index("scripted")] = "vllm"
    code, output = run(arguments)
    if code == 0:
        pytest.skip("vLLM is installed here")
    assert code == 2
    assert "pip install 'fusioncli[vllm]'" in output
    assert "measured" in output
    assert output.count("\n") == 1
    assert not (tmp_path / "s").exists()
