"""The commands about data sets: list them, check one, draw one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.manifest import Manifest

data = typer.Typer(
    name="data", help="Data sets: list them, check one, draw one.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write JSON to a file, or - for stdout.")]


@data.command("list")
def list_datasets(json: Json = None) -> None:
    """Every data set that has a manifest: modalities, splits, folders below the data root, terms and home.

    Example: fusioncli data list --json -
    """
    from pipeline.console import answers, check_json, emit_json, show_table
    from pipeline.manifest import load_manifest, manifest_names

    check_json(json)
    manifests = [load_manifest(name) for name in manifest_names()]
    if json != "-":
        rows = [
            (
                manifest.name,
                " + ".join(manifest.names),
                ", ".join(f"{split.name} {split.expected or ''}".strip() for split in manifest.splits.values()),
            )
            for manifest in manifests
        ]
        show_table("data sets", ("name", "modalities", "splits (pairs)"), rows)
        for manifest in manifests:
            said = [manifest.name, f"  title: {manifest.title}", *_layout(manifest), f"  terms: {manifest.terms}"]
            said += [f"  home: {manifest.homepage}"] if manifest.homepage else []
            answers().print("\n".join(["", *said]), markup=False, soft_wrap=True)
    if json:
        emit_json([manifest.as_dict() for manifest in manifests], json)


@data.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A data set that `fusioncli data list` knows.")],
    root: Annotated[Path | None, typer.Option(help="Data root. Default: FUSIONCLI_DATA, else data/.")] = None,
    json: Json = None,
) -> None:
    """Decode every pair: counts, sizes, strays, orphans, unreadable files, overlap of train and test by content.

    Leaves with 1 when something is wrong.

    Example: fusioncli data check roadscene --root data
    """
    from pipeline.check import check_dataset
    from pipeline.console import check_json, emit_json, show_table
    from pipeline.manifest import load_manifest
    from pipeline.pairs import data_root
    from pipeline.words import counted, printable

    check_json(json)
    report = check_dataset(load_manifest(name), data_root(root))
    if json != "-":
        rows = [
            (split.name, split.pairs, split.expected or "any", len(split.sizes), _sizes(split.sizes))
            for split in report.splits
        ]
        show_table(f"{name} in {report.root}", ("split", "pairs", "expected", "sizes", "width x height"), rows)
        if report.problems:
            found = [(problem.kind, problem.path, problem.message) for problem in report.problems]
            show_table(f"{len(found)} problems", ("kind", "path", "what"), found)
        for note in report.notes:
            typer.echo(printable(f"note: {note}"))
    if json:
        emit_json(report.as_dict(), json)
    if not report.ok:
        typer.echo(f"fusioncli: {name}: {counted(len(report.problems), 'problem')}; see above", err=True)
        raise typer.Exit(1)
    if json != "-":
        typer.echo(f"{name}: {counted(sum(split.pairs for split in report.splits), 'pair')}, no problems")


@data.command("synth")
def synth(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    pairs: Annotated[int, typer.Option(help="How many pairs; every fifth is for testing.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pictures.")] = 0,
    height: Annotated[int, typer.Option(help="Pixels.")] = 192,
    width: Annotated[int, typer.Option(help="Pixels.")] = 256,
    clean: Annotated[bool, typer.Option("--clean", help="Keep the undegraded pictures too, under clean/.")] = False,
    json: Json = None,
) -> None:
    """Draw street scenes, visible and infrared, with known degradations: vi/, ir/ and truth.jsonl.

    Example: fusioncli data synth data/synthetic --pairs 40 --seed 1
    """
    import shlex
    from collections import Counter
    from importlib.util import find_spec

    from pipeline.console import check_json, emit_json, note, show_table
    from pipeline.synth import draw_pairs
    from pipeline.words import counted

    check_json(json)
    drawn = draw_pairs(folder, pairs, seed, height=height, width=width, clean=clean)
    counts = Counter((event.modality, event.type, event.severity) for events in drawn for event in events)
    rows = [(*event, times) for event, times in sorted(counts.items())]
    if json != "-":
        show_table(
            f"{counted(len(drawn), 'pair')} in {folder}", ("modality", "degradation", "severity", "images"), rows
        )
    if json:
        names = ("modality", "type", "severity", "images")
        emit_json({"pairs": len(drawn), "events": [dict(zip(names, row, strict=True)) for row in rows]}, json)
    pairs_of = ["--pairs", str(folder / "vi"), str(folder / "ir")]
    named = ["--dataset", "synthetic", "--root", str(folder.parent)] if folder.name == "synthetic" else pairs_of
    anywhere = [] if find_spec("vllm") else ["--captioner", "measured", "--embedder", "hashing"]
    note(f"next: {shlex.join(['fusioncli', 'caption', *named, *anywhere])}")


def _layout(manifest: Manifest) -> list[str]:
    """A line for each pair of folders, below the data root, with the splits that lie there."""
    splits: dict[str, list[str]] = {}
    for split in manifest.splits.values():
        folders = " + ".join(f"{manifest.folder}/{split.folders[name]}" for name in manifest.names)
        splits.setdefault(folders, []).append(split.name)
    return [f"  {' and '.join(names)}: {folders}" for folders, names in splits.items()]


def _sizes(sizes: dict[tuple[int, int], int]) -> str:
    named = [f"{width}x{height}" for height, width in sizes]
    return ", ".join(named) if len(named) <= 3 else f"{named[0]} to {named[-1]}"
