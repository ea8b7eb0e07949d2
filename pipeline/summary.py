"""What a caption run says at its end."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from pipeline.captioning import Summary
from pipeline.console import emit_json, is_quiet, note, show_table


def show_summary(summary: Summary, json: str | None) -> None:
    """Print the counts, or write them as JSON."""
    if json:
        emit_json(asdict(summary), json)
        if json == "-":
            return
    rows: list[tuple[str, object]] = [
        ("store", summary.store),
        ("prior", summary.prior),
        ("pairs", summary.pairs),
        ("failed", summary.failed),
        ("shards done", f"{summary.done} of {summary.shards}"),
    ]
    rows += [(f"failed: {kind}", count) for kind, count in sorted(summary.errors.items())]
    rows += [("first failure", summary.first_error)] if summary.first_error else []
    rows += [(f"unknown label: {label}", count) for label, count in sorted(summary.unknown_labels.items())]
    show_table("captions", ("", ""), rows)


def show_next(summary: Summary) -> None:
    """Say what to do after a run that may be built on; nothing where every pair failed."""
    if summary.done < summary.shards:
        note(
            "other shards are with other processes, or left for them; run the same command again to finish what remains"
        )
    elif summary.failed < summary.pairs and not is_quiet():
        import torch

        recipe = [] if torch.cuda.is_available() else ["--recipe", "tiny"]  # the paper's takes weeks on a CPU
        note(f"next: {shlex.join(['fusioncli', 'train-teacher', '--store', summary.store, *recipe])}")
