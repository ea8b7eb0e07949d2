"""``fusioncli nets``."""

from __future__ import annotations

from typing import Annotated

import typer


def nets(
    json: Annotated[str | None, typer.Option(help="Write JSON to this file (- is standard output).")] = None,
) -> None:
    """List every network: its role, parameters, and GFLOP for one 640x480 pair.

    Example: fusioncli nets
    """
    from fusion.catalog import NETWORKS
    from fusion.cost import count_gflops, count_parameters
    from pipeline.console import check_json, emit_json, show_table

    check_json(json)
    rows = []
    for name, entry in NETWORKS.items():
        network = entry.build()
        parameters = count_parameters(network)
        row = {"name": name, "role": entry.role, "parameters": parameters, "gflops_640x480": count_gflops(network)}
        rows.append(row)
    if json is not None:
        emit_json(rows, json)
        return
    header = ("name", "role", "parameters", "gflops_640x480")
    show_table("Networks", header, [[row[name] for name in header] for row in rows])
