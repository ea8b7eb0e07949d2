"""Workers on a Ray cluster: one actor each, every one taking shards by claim as local processes do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.allocator import keep_freed_memory
from pipeline.errors import FusionError, MissingPackage
from pipeline.job import JobSpec, Report
from pipeline.runners import Run
from pipeline.runners.local import WorkerFailed, work

LOOK_EVERY = 0.5  # seconds between looks at the workers' progress
GIVEN_TO_STOP = 60.0  # seconds for the other workers once one has failed


@contextmanager
def cluster(workers: int) -> Iterator[Run]:
    """What finishes shards with ``workers`` Ray tasks; nothing starts before there is work. It raises as ``run`` does."""
    yield lambda spec, shards, report: run(spec, shards, workers, report)


def run(spec: JobSpec, shards: Sequence[int], workers: int, report: Report) -> None:
    """Finish ``shards`` on the cluster that RAY_ADDRESS names, else on a local one started for this run.

    The store must be a place that every node reaches. Raises MissingPackage without Ray, WorkerFailed when a task dies.
    """
    try:
        import ray
        from ray.util.queue import Queue
    except ModuleNotFoundError as error:
        raise MissingPackage("--runner ray needs Ray: pip install 'fusioncli[ray]'; or use --runner local") from error
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    count = max(1, min(workers, len(shards)))
    gpus = 1 if spec.captioner in ("vllm", "transformers") and ray.cluster_resources().get("GPU") else 0
    finish = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(_work)
    steps = Queue(actor_options={"num_cpus": 0})
    pending: list[Any] = []
    try:
        pending = [finish.remote(spec, list(shards), rank, count, steps) for rank in range(count)]
        while pending:
            ready, pending = ray.wait(pending, num_returns=1, timeout=LOOK_EVERY)
            for outcome in ray.get(ready):
                if outcome is not None:
                    raise outcome
            for step in steps.get_nowait_batch(steps.qsize()):
                report(step)
    except ray.exceptions.RayError as error:
        raise WorkerFailed(f"a Ray task died: {str(error).splitlines()[0]}; run the same command again") from error
    finally:
        for task in pending:  # as after Ctrl-C: a worker drops the shard in hand and gives its claim back
            ray.cancel(task)
        if pending:
            ray.wait(pending, num_returns=len(pending), timeout=GIVEN_TO_STOP)
        steps.shutdown(force=True)
        if started_here:
            ray.shutdown()


def _work(spec: JobSpec, shards: list[int], rank: int, world: int, steps: Any) -> FusionError | OSError | None:
    keep_freed_memory()
    try:
        work(spec, shards, rank, world, steps.put)
    except FusionError as error:
        return error
    except OSError as error:  # a full disk, say
        return OSError(error.errno, error.strerror, error.filename)
    return None
