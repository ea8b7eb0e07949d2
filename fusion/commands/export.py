"""``fusioncli export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    weights: Annotated[str, typer.Option(help="A run, a weights folder, a shipped name or a Hub id.")],
    to: Annotated[str, typer.Option(help="onnx, openvino or torchscript.")],
    out: Annotated[Path, typer.Option(help="The folder for the exported network.")],
    precision: Annotated[str, typer.Option(help="fp32; fp16: weights in half the space; int8: as --int8.")] = "fp32",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise edge or nano to 8 bits for onnx or openvino, and print what it costs."),
    ] = False,
    calibrate: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="For --int8: two folders of pairs like those to be fused; without it, drawn ones."),
    ] = None,
    json: Annotated[str | None, typer.Option(help="Write the comparison as JSON to this file, - for stdout.")] = None,
) -> None:
    """Write a network for another engine; it takes any size and batch. Compared with PyTorch, refused when it differs.

    Example: fusioncli export --weights edge --to onnx --out exported/edge-onnx
    """
    from dataclasses import asdict

    from fusion.export import export_network
    from pipeline.console import check_json, emit_json, note, show_table
    from pipeline.errors import InputError
    from pipeline.words import counted

    check_json(json)
    eight = int8 or precision == "int8"
    if int8 and precision == "fp16":
        raise InputError("--int8 and --precision fp16: choose one")
    if calibrate is not None and not eight:
        raise InputError("--calibrate is for --int8")
    if eight:
        from fusion.quantisation import export_int8

        quantised = export_int8(weights, to, out, calibrate)
        if json is not None:
            emit_json(asdict(quantised), json)
        else:
            costs = [(one.name, one.fp32, one.int8, one.int8 - one.fp32) for one in quantised.costs]
            title = (
                f"{weights} in 8 bits for {to}, on {counted(quantised.measured_on, 'pair')} it was not calibrated on"
            )
            show_table(title, ("metric", "fp32", "int8", "change"), costs)
    else:
        compared = export_network(weights, to, out, precision)
        if json is not None:
            emit_json([asdict(one) for one in compared], json)
        else:
            rows = [(one.batch, f"{one.width} x {one.height}", one.difference) for one in compared]
            show_table(f"{weights} for {to}, against PyTorch", ("pairs", "size", "worst difference (0..1)"), rows)
    note(f"wrote {out}; use it with: fusioncli fuse VISIBLE INFRARED --out PATH --engine {to} --weights {out}")
