"""Workers on this machine: one in this process, or several processes that take shards by claim."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from pipeline.allocator import keep_freed_memory
from pipeline.errors import FusionError
from pipeline.job import Job, JobSpec, Progress, Report
from pipeline.runners import Run

DEATHS_BORNE = 3  # workers that may be killed from outside (out of memory, say) before the run gives up
LOOK_FIRST, LOOK_EVERY = 0.05, 1.0  # seconds between looks at the shards that other processes have: ever longer
SAID_AFTER = 15  # looks in vain


class WorkerFailed(FusionError):
    """A worker process ended with an error, or died too often."""


@contextmanager
def local(workers: int) -> Iterator[Run]:
    """What finishes shards with ``workers`` processes, which start now and load their modules while the plan is made.

    It raises what a worker raised; WorkerFailed when they keep dying.
    """
    if workers <= 1:
        yield lambda spec, shards, report: work(spec, shards, 0, 1, report)
        return
    crew = Crew(workers)
    try:
        yield crew.run
    finally:
        crew.close()


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process, and this end of the pipe by which it gets its work and tells how far it is.

    Every one has a pipe of its own: a worker that is killed while it writes leaves no other waiting for a lock.
    """

    process: BaseProcess
    pipe: Connection

    def send(self, message: Any) -> None:
        """Say something to it; one that is dead says so by its exit status."""
        with suppress(OSError):
            self.pipe.send(message)

    def told(self) -> Iterator[Any]:
        """What it sent and nobody has read yet."""
        with suppress(EOFError, OSError):  # it has closed its end, or died in the middle of a message
            while self.pipe.poll():
                yield self.pipe.recv()


class Crew:
    """Several worker processes for one run."""

    def __init__(self, count: int) -> None:
        self.working = {rank: _start() for rank in range(count)}

    def run(self, spec: JobSpec, shards: Sequence[int], report: Report) -> None:
        """Give everybody the work and wait until all have ended; one that was killed is replaced."""
        world = len(self.working)
        for rank, worker in self.working.items():
            worker.send((spec, shards, rank, world))
        failure: BaseException | None = None
        deaths = 0
        while self.working:
            wait([end for worker in self.working.values() for end in (worker.pipe, worker.process.sentinel)])
            for rank, worker in list(self.working.items()):
                ended = not worker.process.is_alive()  # looked at first, so that its last words are heard
                for message in worker.told():
                    if isinstance(message, Progress):
                        report(message)
                    else:
                        failure = failure or message
                        self._stop()
                if not ended:
                    continue
                del self.working[rank]
                worker.pipe.close()
                if worker.process.exitcode == 0 or failure:
                    continue
                deaths += 1
                if deaths > DEATHS_BORNE:
                    failure = WorkerFailed(
                        f"workers keep dying (the last with exit status {worker.process.exitcode}; -9 is often a lack of "
                        "memory); what is committed stays: run the same command again with fewer --workers"
                    )
                    self._stop()
                else:
                    self.working[rank] = _start()
                    self.working[rank].send((spec, shards, rank, world))
        if failure:
            raise failure

    def close(self) -> None:
        """End those that still run."""
        for worker in self.working.values():
            worker.process.terminate()
            worker.process.join()

    def _stop(self) -> None:
        """Let everybody finish the shard in hand and no other."""
        for worker in self.working.values():
            worker.send(None)


def _start() -> Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_worker, args=(there,))
    process.start()
    there.close()
    return Worker(process=process, pipe=here)


def work(
    spec: JobSpec, shards: Sequence[int], rank: int, world: int, report: Report, stop: Callable[[], bool] | None = None
) -> None:
    """One worker: its own stripe of the shards first, then whatever others left, unless failed pairs are retried.

    It ends when all of them are done: what other processes have is waited for, and taken over from the dead.
    """
    job = Job(spec)
    try:
        own = [shard for position, shard in enumerate(shards) if position % world == rank]
        others = [shard for position, shard in enumerate(shards) if position % world != rank]
        left = own if spec.retry_failed else [*own, *others]  # what fails again would be tried by everybody
        stopped = stop or (lambda: False)
        rounds, pause = 0, LOOK_FIRST
        while left and not stopped():
            for shard, upcoming in zip_longest(left, left[1:]):
                if stopped():
                    break
                job.finish(shard, report, upcoming)
            job.settle()
            left = [shard for shard in left if shard in job.elsewhere]
            rounds += 1
            if left and rounds == SAID_AFTER:
                report(Progress(pairs=0, failed=0, tokens=0, shard=left[0], waiting=len(left)))
            if left:
                time.sleep(pause)
                pause = min(2 * pause, LOOK_EVERY)
    finally:
        job.close()


def _worker(pipe: Connection) -> None:
    """What a worker process does; anything said to it after its work means stop, and so does its parent's end."""
    import pyarrow.parquet  # noqa: F401 (it takes longest to load, and the plan may still be in the making)

    keep_freed_memory()
    try:
        try:
            spec, shards, rank, world = pipe.recv()
        except EOFError:  # the run ended before there was work
            return
        devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if spec.captioner in ("vllm", "transformers"):  # one device a worker, set before anything starts it
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)] if devices else str(rank)
        work(spec, shards, rank, world, pipe.send, pipe.poll)
    except KeyboardInterrupt:
        return
    except FusionError as error:
        pipe.send(error)
    except OSError as error:
        with suppress(OSError):  # it may be this pipe that is broken
            pipe.send(OSError(error.errno, error.strerror, error.filename))
