"""``fusioncli export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[str, typer.Option(help="A run, a weights folder, a shipped name or a Hub id.")],
    to: Annotated[str, typer.Option(help="onnx, openvino or torchscript.")],
    out: Annotated[Path, typer.Option(help="The folder for the exported network.")],
    precision: Annotated[str, typer.Option(help="fp32, or fp16: weights in half the space.")] = "fp32",
    json: Annotated[str | None, typer.Option(help="Write the comparison as JSON to this file, - for stdout.")] = None,
) -> None:
    """Write a network for another engine; it takes any size and batch. Compared with PyTorch, refused when it differs.

    Example: fusioncli export --weights edge --to onnx --out exported/edge-onnx
    """
    from dataclasses import asdict

    from fusion.export import export_network
    from pipeline.console import emit_json, note, show_table

    compared = export_network(weights, to, out, precision)
    if json is not None:
        emit_json([asdict(one) for one in compared], json)
    else:
        rows = [(f"{one.width} x {one.height}", one.difference) for one in compared]
        show_table(f"{weights} for {to}, against PyTorch", ("size", "worst difference (0..1)"), rows)
    note(f"wrote {out}; use it with: fusioncli fuse VISIBLE INFRARED --out PATH --engine {to} --weights {out}")
