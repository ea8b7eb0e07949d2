"""``fusioncli fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fuse(
    visible: Annotated[Path, typer.Argument(help="The visible (or CT, PET, SPECT) image, or a folder of them.")],
    infrared: Annotated[Path, typer.Argument(help="The infrared (or MRI) image, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The fused image, or the folder for them.")],
    weights: Annotated[str | None, typer.Option(help="A run, a weights folder, a shipped name or a Hub id.")] = None,
    tile: Annotated[int | None, typer.Option(help="Fuse in tiles of this many pixels a side.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Write luma only.")] = False,
    sixteen_bit: Annotated[bool, typer.Option("--sixteen-bit", help="Write 16-bit grey (PNG, TIFF).")] = False,
    format: Annotated[str, typer.Option(help="For folders: png, jpg, webp, tiff or bmp.")] = "png",
    jobs: Annotated[int, typer.Option(help="For folders: threads that decode, and as many that encode.")] = 2,
    align: Annotated[
        str | None,
        typer.Option(
            help="Move the infrared image: shift, affine or homography; none fuses misaligned pairs as they are."
        ),
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Scale the infrared image to the visible one's size.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="torch; or onnx, openvino, torchscript with --weights a folder made by `export`.")
    ] = "torch",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; default: the GPU if there is one.")] = None,
) -> None:
    """Fuse two images, or two folders of them matched by stem. What goes in decides the size that comes out.

    Example: fusioncli fuse visible.png infrared.png --out fused.png
    """
    import torch

    from fusion.alignment import Fit
    from fusion.default_weights import default_weights
    from fusion.folders import Entry, FolderOptions, check_entries, fuse_folders
    from fusion.inference import Fuser, Output, check_output, fuse_file
    from pipeline.console import note, progress
    from pipeline.errors import InputError
    from pipeline.pairs import images_in

    if visible.is_dir() != infrared.is_dir() and visible.exists() and infrared.exists():
        raise InputError(f"{visible} and {infrared}: give two files or two folders")
    output, asked = Output(grey=grey, sixteen_bit=sixteen_bit), Fit(align=align, resize=resize)
    options = FolderOptions(output=output, suffix=f".{format.lower()}", jobs=jobs, asked=asked)
    if not visible.is_dir():
        check_output(out, output)
    if weights is None:
        if engine != "torch":
            raise InputError(f"--engine {engine} needs --weights: a folder made by `fusioncli export --to {engine}`")
        weights, reason = default_weights(accelerator=torch.cuda.is_available())
        note(f"weights: {weights} ({reason})")
    fuser = Fuser.from_pretrained(weights, device=device, tile=tile, engine=engine)
    if not visible.is_dir():
        fuse_file(fuser, visible, infrared, out, output, asked)
        note(f"wrote {out}")
        return
    with progress() as bar:
        task = bar.add_task("fusing", total=len(images_in(visible)))

        def on_pair(_: Entry) -> None:
            bar.advance(task)

        entries = fuse_folders(fuser, visible, infrared, out, options, on_pair)
    check_entries(entries, out)
    note(f"wrote {len(entries)} fused images to {out}")
