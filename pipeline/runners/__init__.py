"""Runners: where shards are finished. All of them do nothing but ``Job.finish(k)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.job import JobSpec, Report

Runner = Callable[[JobSpec, Sequence[int], int, Report], None]


def _local(spec: JobSpec, shards: Sequence[int], workers: int, report: Report) -> None:
    from pipeline.runners.local import run

    run(spec, shards, workers, report)


def _ray(spec: JobSpec, shards: Sequence[int], workers: int, report: Report) -> None:
    from pipeline.runners.ray import run

    run(spec, shards, workers, report)


RUNNERS: dict[str, Runner] = {"local": _local, "ray": _ray}
