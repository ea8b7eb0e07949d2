"""Which weights are taken when none are named, and why."""

from __future__ import annotations

from pathlib import Path

from fusion.weights import CONFIG, find_weights, read_config, shipped_names
from pipeline.errors import WeightsError


def default_weights(runs: Path = Path("runs"), accelerator: bool = False) -> tuple[str, str]:
    """A name or path for ``load_weights`` and the reason.

    Shipped weights first: the d16 student on an accelerator, the edge network on a CPU. Without any shipped, the one
    student in ``runs``. Raises WeightsError when that is none or several.
    """
    shipped = shipped_names()
    order = ("student", "edge", "nano") if accelerator else ("edge", "nano", "student")
    for name in order:
        if name in shipped:
            return name, f"{'there is a GPU' if accelerator else 'this machine has no GPU'}; --weights chooses"
    students = sorted(path.parent for path in runs.glob(f"*-student/{CONFIG}"))
    if len(students) == 1:
        return str(students[0]), "the only student in runs/; --weights chooses"
    if students:
        raise WeightsError(f"several students in {runs}: choose one with --weights: {', '.join(map(str, students))}")
    raise WeightsError("no weights: name some with --weights, or train a student first (`fusioncli quickstart` does)")


def shipped_for(task: str, accelerator: bool = False) -> list[str]:
    """The shipped weights trained for ``task``, sorted: what a benchmark compares.

    Networks of attention take seconds a picture on a CPU and are left out where there is no accelerator.
    """
    configs = {name: read_config(find_weights(name)) for name in shipped_names()}
    return [
        name
        for name, config in configs.items()
        if config.get("task") == task and (accelerator or config["family"] == "edge")
    ]
