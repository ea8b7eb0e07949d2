"""``fusioncli fuse``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusion.folders import FolderOptions
    from fusion.inference import Fuser
    from fusion.video import VideoOptions


def fuse(
    context: typer.Context,
    visible: Annotated[
        str, typer.Argument(help="The visible (or CT, PET, SPECT) image, a folder of them, a video, a webcam or a URL.")
    ],
    infrared: Annotated[
        str | None, typer.Argument(help="The infrared (or MRI) one; none with --side-by-side.", show_default=False)
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The fused image or video, or the folder for fused images.")],
    weights: Annotated[str | None, typer.Option(help="A run, a weights folder, a shipped name or a Hub id.")] = None,
    tile: Annotated[int | None, typer.Option(help="Fuse in tiles of this many pixels a side.")] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Write luma only.")] = False,
    sixteen_bit: Annotated[bool, typer.Option("--sixteen-bit", help="Write 16 bits a channel (PNG, TIFF).")] = False,
    format: Annotated[str, typer.Option(help="For folders: png, jpg, webp, tiff or bmp.")] = "png",
    jobs: Annotated[int, typer.Option(help="For folders: threads that decode, and as many that encode.")] = 2,
    at_once: Annotated[
        int | None,
        typer.Option(
            help="For folders and videos: pictures fused at the same time, each by a share of the CPU's threads; default 2, on a GPU 1.",
            show_default=False,
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            help="Move the infrared image: shift, affine or homography; none fuses misaligned pairs as they are."
        ),
    ] = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="Scale the infrared image to the visible one's size.")
    ] = False,
    side_by_side: Annotated[
        str | None, typer.Option(help="One video of both: visible-infrared (left, right) or infrared-visible.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="For videos: stop after so many seconds of it.")] = None,
    audio: Annotated[bool, typer.Option(help="For videos: copy the audio.")] = True,
    json: Annotated[str | None, typer.Option(help="For videos: write the report to this file, - for stdout.")] = None,
    engine: Annotated[
        str, typer.Option(help="torch; or onnx, openvino, torchscript with --weights a folder made by `export`.")
    ] = "torch",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; default: the GPU if there is one.")] = None,
) -> None:
    """Fuse two images, two folders of them matched by stem, or two videos. What goes in decides the size that comes out.

    Example: fusioncli fuse visible.png infrared.png --out fused.png
    """
    import torch

    from fusion.alignment import Fit
    from fusion.default_weights import default_weights
    from fusion.engines import check_engine
    from fusion.folders import FolderOptions
    from fusion.footage import is_video
    from fusion.fused_image import Output, check_output
    from fusion.inference import Fuser, fuse_file
    from fusion.thread_share import usual
    from fusion.video import VideoOptions
    from pipeline.console import check_json, note
    from pipeline.errors import InputError

    if context.args:
        count = len(context.args) + 2
        raise InputError(
            f"{count} names were given, and it takes two; a pattern such as {Path(visible).parent / '*'} is many names to "
            "the shell: give the two folders"
        )
    check_json(json)
    asked = Fit(align=align, resize=resize)
    output = Output(grey=grey, sixteen_bit=sixteen_bit)
    options = FolderOptions(output=output, suffix=f".{format.lower()}", jobs=jobs, asked=asked)
    film = VideoOptions(asked=asked, side_by_side=side_by_side, seconds=seconds, audio=audio)
    videos = [name for name in (visible, infrared) if name is not None and is_video(name)]
    first, second = Path(visible), Path(infrared or "")
    folders = first.is_dir()
    _check_sources(visible, infrared, videos, side_by_side)
    if videos and (grey or sixteen_bit):
        raise InputError("--grey and --sixteen-bit are for images; videos are written in colour of 8 bits")
    if at_once is not None and (at_once < 1 or not (folders or videos)):
        raise InputError(f"--at-once {at_once}: {'at least 1' if at_once < 1 else 'for folders and videos'}")
    if not videos and (side_by_side or seconds is not None or json is not None):
        raise InputError("--side-by-side, --seconds and --json are for videos")
    if not folders and not videos:
        check_output(out, output, (first, second))
    check_engine(engine)
    if weights is None:
        if engine != "torch":
            raise InputError(f"--engine {engine} needs --weights: a folder made by `fusioncli export --to {engine}`")
        weights, reason = default_weights(accelerator=torch.cuda.is_available())
        note(f"weights: {weights} ({reason})")
    if (folders or videos) and engine != "torch":
        at_once = at_once or usual()
    fuser = Fuser.from_pretrained(weights, device=device, tile=tile, engine=engine, at_once=at_once)
    if videos:
        _fuse_videos(fuser, visible, infrared, out, film, json)
    elif folders:
        _fuse_folders(fuser, first, second, out, options)
    else:
        fuse_file(fuser, first, second, out, output, asked)
        note(f"wrote {out}")


def _check_sources(visible: str, infrared: str | None, videos: list[str], side_by_side: str | None) -> None:
    """Raise InputError unless there are two images, two folders, two videos, or one video of both."""
    from pipeline.errors import InputError

    if infrared is None:
        if not (videos and side_by_side):
            raise InputError("give the infrared image, folder or video too; one video of both needs --side-by-side")
        return
    if len(videos) == 1:
        raise InputError(f"{visible} and {infrared}: only {videos[0]} is a video; give two")
    first, second = Path(visible), Path(infrared)
    if first.exists() and second.exists() and first.is_dir() != second.is_dir():
        raise InputError(f"{visible} and {infrared}: give two files or two folders")
    if not videos and first.exists() and second.exists() and first.samefile(second):
        raise InputError(f"{visible}: given twice; give the visible image or folder, then the infrared one")


def _fuse_folders(fuser: Fuser, visible: Path, infrared: Path, out: Path, options: FolderOptions) -> None:
    from fusion.folders import LOG, Entry, check_entries, fuse_folders
    from pipeline.console import note, progress
    from pipeline.image_folder import images_in

    with progress() as bar:
        task = bar.add_task("fusing", total=len(images_in(visible)))

        def on_pair(_: Entry) -> None:
            bar.advance(task)

        entries = fuse_folders(fuser, visible, infrared, out, options, on_pair)
    check_entries(entries, out)
    kept = sum(entry.kept for entry in entries)
    note(f"{len(entries)} fused images in {out} ({len(entries) - kept} new, {kept} kept), log: {out / LOG}")


def _fuse_videos(
    fuser: Fuser, visible: str, infrared: str | None, out: Path, options: VideoOptions, json: str | None
) -> None:
    from dataclasses import asdict

    from fusion.video import fuse_videos
    from pipeline.console import emit_json, note, progress

    with progress("rate") as bar:
        task = bar.add_task("fusing", total=None, rate="")

        def on_frame(frames: int, rate: float, total: int | None) -> None:
            bar.update(task, completed=frames, total=total, rate=f"{rate:.1f} frames/s")

        report = fuse_videos(fuser, visible, infrared, out, options, on_frame)
    if json is not None:
        emit_json(asdict(report), json)
    note(
        f"wrote {report.frames} frames to {out} at {report.rate:.1f} a second ({report.playback:.4g} a second when played), "
        f"{'audio copied' if report.audio else 'no audio'}"
    )
    if report.repeated or report.skipped:
        note(
            f"to keep the visible video's time: {report.repeated} infrared frames used again, {report.skipped} left out"
        )
    if report.hdr:
        note(f"{visible} is of high dynamic range ({report.hdr}): {out} keeps its colour space, in 8 bits a channel")
    for name in report.cut:
        note(f"{name} ends well before the length it gives: was it cut off?")
    if report.flicker is not None:
        more = "more" if report.flicker > 0 else "less"
        note(f"flicker: changes {abs(report.flicker):.2f} grey levels a frame {more} than the livelier source")
