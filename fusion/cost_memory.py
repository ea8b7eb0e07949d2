"""What methods cost, measured once and kept beside a benchmark."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from fusion.methods import Method
from fusion.results import Cost
from pipeline.atomic import write_text
from pipeline.console import note, progress


def measure_costs(methods: Sequence[Method], cache_file: Path, device: str = "cpu") -> dict[str, Cost | None]:
    """Parameters, FLOPs, latency and memory of each method, measured once per weights, machine and device."""
    known = _known_costs(cache_file)
    found: dict[str, Cost | None] = {}
    with progress("doing") as bar:
        task = bar.add_task("cost", total=len(methods), doing="")
        for method in methods:
            card = method.card
            bar.update(task, doing=card.name)
            where = f"{platform.node()} {device} {torch.get_num_threads()} {torch.__version__}"
            key = f"{card.digest or card.name} {where}"
            cost = known.get(key) or method.cost()
            if cost is not None:
                known[key] = cost
            found[card.name] = cost
            bar.advance(task)
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    write_text(cache_file, json.dumps({key: asdict(cost) for key, cost in known.items()}, indent=2) + "\n")
    return found


def _known_costs(cache_file: Path) -> dict[str, Cost]:
    """What was measured before. A damaged file, or an entry of another version, is measured again."""
    try:
        raw = json.loads(cache_file.read_text(encoding="utf-8")) if cache_file.is_file() else {}
        entries = {key: entry for key, entry in raw.items() if entry.keys() == {one.name for one in fields(Cost)}}
        return {key: Cost(**{**entry, "size": tuple(entry["size"])}) for key, entry in entries.items()}
    except (ValueError, AttributeError, TypeError):
        note(f"{cache_file}: damaged; costs are measured again")
        return {}
