"""``fusioncli doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    root: Annotated[Path | None, typer.Option(help="Data root to look for.")] = None,
    json: Annotated[
        str | None, typer.Option(help="Write the findings as JSON to this file (- is standard output).")
    ] = None,
) -> None:
    """Say what this machine can run, and what to install for the rest.

    Example: fusioncli doctor
    """
    from dataclasses import asdict

    from fusion.doctor import examine
    from pipeline.console import check_json, emit_json, show_table

    check_json(json)
    findings = examine(root)
    if json is not None:
        emit_json([asdict(finding) for finding in findings], json)
        return
    rows = [(one.what, "yes" if one.ok else "no", one.found, one.advice) for one in findings]
    show_table("This machine", ("what", "there", "found", "advice"), rows)
