"""Whichever engine runs, the bytes are the same; decoding the next shard overlaps captioning this one."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import pipeline.decoding
import pipeline.job
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.scripted import ScriptedCaptioner
from pipeline.claims import Claims
from pipeline.errors import FusionError, ImageError
from pipeline.events import Caption
from pipeline.images import Picture, read_image
from pipeline.job import Job, JobSpec, Progress, Report
from pipeline.runners import RUNNERS, Run
from pipeline.runners.local import work
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption, contents


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_makes_the_same_bytes_and_tells_its_progress(
    cluster: Any, tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow because a Ray cluster starts."""
    folders = draw_pairs(14)
    caption(tmp_path / "local", folders, shard_size=3, do_fail=0.2)
    seen: list[Progress] = []
    runner = RUNNERS["ray"]

    @contextmanager
    def watched(workers: int) -> Iterator[Run]:
        def watch(spec: JobSpec, shards: Sequence[int], report: Report) -> None:
            def told(step: Progress) -> None:
                seen.append(step)
                report(step)

            run(spec, shards, told)

        with runner(workers) as run:
            yield watch

    monkeypatch.setitem(RUNNERS, "ray", watched)
    caption(tmp_path / "ray", folders, shard_size=3, do_fail=0.2, runner="ray", workers=2)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert sum(step.pairs for step in seen) == 14
    assert sorted(step.shard for step in seen if step.finished) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_back_end_that_stops_is_said_through_ray_and_the_rest_resumes(
    cluster: Any, tmp_path: Path, draw_pairs: Any
) -> None:
    folders = draw_pairs(8)
    with pytest.raises(Exception, match="told to"):
        caption(tmp_path / "s", folders, shard_size=2, runner="ray", workers=2, do_stop_at="p0005")
    caption(tmp_path / "s", folders, shard_size=2, runner="ray", workers=2)
    caption(tmp_path / "calm", folders, shard_size=2)
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


@pytest.mark.slow
def test_when_one_ray_task_fails_no_other_is_left_at_work(cluster: Any, tmp_path: Path, draw_pairs: Any) -> None:
    """One stops at its first pair while the other is slowly at work: neither holds a shard once that was said."""
    folders = draw_pairs(8)
    with pytest.raises(FusionError, match="told to"):
        caption(tmp_path / "s", folders, shard_size=2, runner="ray", workers=2, do_stop_at="p0000", do_delay=1.0)
    assert list((tmp_path / "s" / "logs" / "claims").iterdir()) == []
    done = contents(tmp_path / "s")
    time.sleep(3)
    assert contents(tmp_path / "s") == done


@pytest.mark.slow
def test_what_the_system_refuses_a_ray_task_is_said_with_its_file(
    cluster: Any, tmp_path: Path, draw_pairs: Any
) -> None:
    """As a local worker says it: which file, and why."""
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2, plan_only=True)
    (tmp_path / "s/images").write_text("in the way")
    for runner in ("local", "ray"):
        with pytest.raises(OSError, match="exists") as caught:
            caption(tmp_path / "s", folders, shard_size=2, runner=runner, workers=2)
        assert (caught.value.errno, caught.value.filename) == (errno.EEXIST, str(tmp_path / "s/images"))


def test_the_next_shard_is_decoded_while_this_one_is_captioned(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The captioner does not answer for shard 0 before an image of shard 1 was decoded: without overlap it gives up."""
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=2)
    decoded, overlapped = threading.Event(), []
    names: list[str] = []

    def reading(content: bytes, *, name: str) -> Picture:
        names.append(name)
        if "p0002" in name:
            decoded.set()
        return read_image(content, name=name)

    def patient(self: ScriptedCaptioner, requests: Sequence[CaptionRequest]) -> list[Caption]:
        if requests[0].key == "p0000":
            overlapped.append(decoded.wait(30))
        return [self._one(request) for request in requests]

    monkeypatch.setattr(pipeline.decoding, "read_image", reading)
    monkeypatch.setattr(ScriptedCaptioner, "caption", patient)
    spec = JobSpec(
        store=str(tmp_path / "s"), prior="again", root=None, task="ivf", captioner="scripted", embedder="hashing"
    )
    job = Job(spec)
    try:
        assert job.finish(0, upcoming=1)
        assert overlapped == [True]
        assert job.finish(1, upcoming=2)
        job.settle()
    finally:
        job.close()
    assert len(names) >= 8
    assert max(Counter(names).values()) == 1, "what was decoded ahead is used, not decoded again"
    assert job.store.finished("again") == [0, 1]


def test_a_commit_that_fails_is_said_and_gives_its_claim_back(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It happens in another thread, while the next shard is decoded; that next one is not committed either."""
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2)
    spec = JobSpec(
        store=str(tmp_path / "s"), prior="again", root=None, task="ivf", captioner="scripted", embedder="hashing"
    )
    job = Job(spec)

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    try:
        with monkeypatch.context() as patched:
            patched.setattr(pipeline.job, "make_marker", full)
            assert job.finish(0)
            with pytest.raises(OSError, match="No space"):
                job.finish(1)
        assert job.store.finished("again") == []
        assert list((tmp_path / "s/logs/claims").iterdir()) == []
        assert job.finish(0)
        assert job.finish(1)
        job.settle()
        assert job.store.finished("again") == [0, 1]
    finally:
        job.close()
    caption(tmp_path / "s", folders, prior="calm")
    rows = [(tmp_path / "s/priors" / name / "shard-000000.parquet").read_bytes() for name in ("again", "calm")]
    assert rows[0] == rows[1]


def test_no_marker_stands_beside_rows_it_does_not_describe(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that ends between new rows and their marker leaves none; the next run makes it from those rows."""
    folders = draw_pairs(8)
    assert caption(tmp_path / "s", folders, do_fail=0.5).failed

    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.job, "make_marker", full)
        with pytest.raises(OSError, match="No space"):
            caption(tmp_path / "s", folders, retry_failed=True)
    store = Store.open(tmp_path / "s")
    assert store.finished("text") == []
    assert set(store.shard_table("text", 0).column("status").to_pylist()) == {"ok"}
    assert caption(tmp_path / "s", folders, do_stop_at="p0000").failed == 0
    assert verify(store).problems == []


def test_a_shard_that_another_finished_just_before_the_claim_is_not_made_again(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = draw_pairs(4)
    caption(tmp_path / "s", folders, shard_size=2, plan_only=True)
    spec = JobSpec(
        store=str(tmp_path / "s"),
        prior="text",
        root=str(folders[0].parent),
        task="ivf",
        captioner="scripted",
        embedder="hashing",
    )
    job, told = Job(spec), []
    take = Claims.take

    def late(claims: Claims, shard: int) -> bool:
        if claims is job.claims:
            caption(tmp_path / "s", folders)  # between the look and the claim
        return take(claims, shard)

    monkeypatch.setattr(Claims, "take", late)
    try:
        assert not job.finish(0, told.append)
        job.settle()
    finally:
        job.close()
    assert told == []
    assert list((tmp_path / "s/logs/claims").iterdir()) == []


def test_workers_that_wait_for_a_plan_end_when_there_is_none(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(4)
    cut = next(folders[1].iterdir())
    cut.write_bytes(cut.read_bytes()[:20])
    with pytest.raises(ImageError, match=cut.name):
        caption(tmp_path / "s", folders, shard_size=2, workers=2)
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "s" / "store.json").exists()


def test_what_a_worker_raises_is_raised_here_and_the_rest_resumes(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(8)
    with pytest.raises(FusionError, match="told to"):
        caption(tmp_path / "s", folders, shard_size=2, workers=2, do_stop_at="p0005")
    assert multiprocessing.active_children() == []
    caption(tmp_path / "s", folders, shard_size=2, workers=2)
    caption(tmp_path / "calm", folders, shard_size=2)
    assert contents(tmp_path / "s") == contents(tmp_path / "calm")


def test_what_fails_again_is_tried_again_once_and_not_by_every_worker(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=2, do_fail=1.0)
    tried: list[int] = []
    settings = {"fail": "1.0"}
    spec = JobSpec(
        store=str(tmp_path / "s"), prior="text", root=None, task="ivf", captioner="scripted", embedder="hashing",
        captioner_settings=settings, retry_failed=True,
    )  # fmt: skip
    for rank in (0, 1):
        work(spec, range(3), rank, 2, lambda step: tried.append(step.pairs))
    assert sum(tried) == 6
