"""Runners: where shards are finished. All of them do nothing but ``Job.finish(k)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from pipeline.job import JobSpec, Report

Run = Callable[[JobSpec, Sequence[int], Report], None]
Runner = Callable[[int], AbstractContextManager[Run]]  # of a number of workers


def _local(workers: int) -> AbstractContextManager[Run]:
    from pipeline.runners.local import local

    return local(workers)


def _ray(workers: int) -> AbstractContextManager[Run]:
    from pipeline.runners.ray import cluster

    return cluster(workers)


RUNNERS: dict[str, Runner] = {"local": _local, "ray": _ray}
