"""Workers on this machine: one in this process, or several processes that take shards by claim."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any

from pipeline.allocator import keep_freed_memory
from pipeline.errors import FusionError
from pipeline.job import Job, JobSpec, Progress, Report

DEATHS_BORNE = 3  # workers that may be killed from outside (out of memory, say) before the run gives up


class WorkerFailed(FusionError):
    """A worker process ended with an error, or died too often."""


def run(spec: JobSpec, shards: Sequence[int], workers: int, report: Report) -> None:
    """Finish ``shards`` with ``workers`` processes. Raises what a worker raised; WorkerFailed when they keep dying."""
    if workers <= 1 or len(shards) <= 1:
        work(spec, shards, 0, 1, report)
        return
    context = multiprocessing.get_context("spawn")
    messages: Queue[Any] = context.Queue()
    stop = context.Event()
    count = min(workers, len(shards))

    def start(rank: int) -> BaseProcess:
        process = context.Process(target=_worker, args=(spec, list(shards), rank, count, messages, stop))
        process.start()
        return process

    processes = {rank: start(rank) for rank in range(count)}
    failure: BaseException | None = None
    deaths = 0
    try:
        while processes:
            try:
                message = messages.get(timeout=0.2)
            except queue.Empty:
                message = None
            if isinstance(message, Progress):
                report(message)
                continue
            if isinstance(message, BaseException):
                failure = failure or message
                stop.set()  # the others finish the shard in hand
                continue
            for rank, process in list(processes.items()):
                if process.is_alive():
                    continue
                del processes[rank]
                if process.exitcode == 0 or failure:
                    continue
                deaths += 1
                if deaths > DEATHS_BORNE:
                    failure = WorkerFailed(
                        f"workers keep dying (the last with exit status {process.exitcode}; -9 is often a lack of memory); "
                        "what is committed stays: run the same command again with fewer --workers"
                    )
                    stop.set()
                else:
                    processes[rank] = start(rank)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()
    if failure:
        raise failure


def work(spec: JobSpec, shards: Sequence[int], rank: int, world: int, report: Report, stop: Any = None) -> None:
    """One worker: its own stripe of the shards first, then whatever others left."""
    job = Job(spec)
    try:
        own = [shard for position, shard in enumerate(shards) if position % world == rank]
        others = [shard for position, shard in enumerate(shards) if position % world != rank]
        order = [*own, *others]
        for shard, upcoming in zip(order, [*order[1:], None], strict=True):
            if stop is not None and stop.is_set():
                break
            job.finish(shard, report, upcoming)
        job.settle()
    finally:
        job.close()


def _worker(spec: JobSpec, shards: Sequence[int], rank: int, world: int, messages: Queue[Any], stop: Any) -> None:
    keep_freed_memory()
    devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if world > 1 and spec.captioner in ("vllm", "transformers"):  # one device a worker, set before anything starts it
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[rank % len(devices)] if devices else str(rank)
    try:
        work(spec, shards, rank, world, messages.put, stop)
    except KeyboardInterrupt:
        messages.cancel_join_thread()
    except FusionError as error:
        messages.put(error)
    except OSError as error:
        messages.put(OSError(error.errno, error.strerror, error.filename))
