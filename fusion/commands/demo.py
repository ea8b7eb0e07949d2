"""``fusioncli demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Run, weights folder, shipped name or Hub id to choose from. Default: shipped and runs/."),
    ] = None,
    samples: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="VIS_DIR IR_DIR", help="Two folders of pairs to pick from.")
    ] = None,
    store: Annotated[
        list[str] | None, typer.Option(help="Store to browse; may be repeated. Default: stores/*.")
    ] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Benchmark's page or folder to show. Default: bench, quickstart.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; anything but 127.0.0.1 opens it to others.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    limit: Annotated[int, typer.Option(min=1, max=1024, help="Largest upload, in MiB.")] = 32,
) -> None:
    """Serve a page on this machine: fuse two images, browse stores, look at benchmarks. Nothing leaves the machine.

    Example: fusioncli demo --store stores/roadscene --report bench
    """
    from fusion.demo.serving import Offer, serve

    serve(
        Offer(
            weights=weights or (),
            samples=samples,
            stores=store or (),
            reports=report or (),
            host=host,
            port=port,
            limit_mib=limit,
        )
    )
