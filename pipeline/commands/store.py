"""Commands that look at a store. They only read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

store_app = typer.Typer(
    help="Look at a store: verify, show, report, compare.", no_args_is_help=True, rich_markup_mode=None
)
Location = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of the store.")]
Json = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON (- for stdout).")]


@store_app.command()
def verify(store: Location, json: Json = None) -> None:
    """Prove that every planned pair is there exactly once and every digest matches. Exit code 1 if not.

    Example: fusioncli store verify stores/roadscene
    """
    from dataclasses import asdict

    from pipeline.console import answers, check_json, emit_json
    from pipeline.store import Store
    from pipeline.verify import verify as prove
    from pipeline.words import counted

    check_json(json)
    verdict = prove(Store.open(store))
    if json:
        emit_json({"store": store, "ok": not verdict.problems, **asdict(verdict)}, json)
    if json != "-":
        failed = "".join(f"; prior {prior}: {count} failed" for prior, count in verdict.failed.items())
        summary = f"{counted(verdict.pairs, 'pair')}, {counted(verdict.shards, 'shard')}, {counted(verdict.files, 'file')}, {verdict.bytes:,} bytes{failed}"
        lines = [
            *verdict.problems,
            f"{store}: {counted(len(verdict.problems), 'problem') if verdict.problems else 'no problems'}; {summary}",
        ]
        cure = "remove the damaged files and run the same `fusioncli caption` again: it makes what is missing, and keeps the rest"
        lines += [cure] if verdict.problems else []
        for line in lines:
            answers().print(line, markup=False, soft_wrap=True)
    if verdict.problems:
        raise typer.Exit(1)


@store_app.command()
def show(
    store: Location,
    key: Annotated[str | None, typer.Option(help="One pair: what is known of it.")] = None,
    prior: Annotated[str | None, typer.Option(help="Only this prior.")] = None,
    json: Json = None,
) -> None:
    """Say what a store holds, or what its priors say of one pair.

    Example: fusioncli store show stores/roadscene --key FLIR_00006
    """
    from pipeline.console import check_json, emit_json, show_table
    from pipeline.inspection import describe_pair, describe_store
    from pipeline.store import Store

    check_json(json)
    opened = Store.open(store)
    answer = describe_pair(opened, key, prior) if key is not None else describe_store(opened, prior)
    if json:
        emit_json(answer, json)
    if json != "-":
        show_table(store, ("", ""), flat_rows(answer))


@store_app.command()
def report(
    store: Location,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    prior: Annotated[str, typer.Option(help="The prior to report.")] = "text",
) -> None:
    """Write one self-contained HTML page: events, failures, lengths, a map of the embeddings, pairs with captions.

    Example: fusioncli store report stores/roadscene --out report.html
    """
    from pipeline.atomic import write_text
    from pipeline.console import check_file, note
    from pipeline.pages import report_page
    from pipeline.store import Store

    check_file("--out", out, ("<",))
    write_text(out, report_page(Store.open(store), prior))
    note(f"wrote {out}")


@store_app.command()
def compare(
    store: Location,
    first: Annotated[str, typer.Argument(metavar="PRIOR_A")],
    second: Annotated[str, typer.Argument(metavar="PRIOR_B", help="A prior, or a truth.jsonl of a synthetic set.")],
    out: Annotated[Path | None, typer.Option(help="Also write an HTML page with the pairs that differ most.")] = None,
    json: Json = None,
) -> None:
    """Say how far two priors agree, per event; precision and recall are A's, with B taken as true.

    Example: fusioncli store compare stores/msrs text measured --out differences.html
    """
    from pipeline.agreement import agreement_rows, prior_labels, truth_labels
    from pipeline.agreement import compare as agree
    from pipeline.atomic import write_text
    from pipeline.console import check_file, check_json, emit_json, show_table
    from pipeline.errors import InputError
    from pipeline.pages import compare_page
    from pipeline.store import Store
    from pipeline.words import counted

    check_json(json, out)
    if out is not None:
        check_file("--out", out, ("<",))
    opened = Store.open(store)
    is_truth = second.endswith(".jsonl")
    if is_truth and out:
        raise InputError("--out shows two priors side by side; a truth file has no captions to show")
    theirs = truth_labels(Path(second)) if is_truth else prior_labels(opened, second)
    agreement = agree(prior_labels(opened, first), theirs)
    if not agreement.pairs:
        raise InputError(
            f"{store}: no pair is captioned both in {first} and in {second}, so there is nothing to compare"
        )
    rows = agreement_rows(agreement)
    differing = [{"key": key, "events": number} for key, number in agreement.differing]
    names = ("event", "both", "only_first", "only_second", "precision", "recall")
    if json:
        events = [dict(zip(names, row, strict=True)) for row in rows]
        emit_json({"pairs": agreement.pairs, "events": events, "differing": differing}, json)
    if out:
        write_text(out, compare_page(opened, first, second, [key for key, _ in agreement.differing[:24]], rows))
    if json != "-":
        header = ("event", "both", f"only {first}", f"only {second}", "precision", "recall")
        show_table(f"{counted(agreement.pairs, 'pair')}, {len(differing)} differ", header, rows)


def flat_rows(answer: object, prefix: str = "") -> list[tuple[str, object]]:
    """Nested mappings as rows of dotted names."""
    if not isinstance(answer, dict):
        return [(prefix, "" if answer is None else answer)]
    rows: list[tuple[str, object]] = []
    for key, value in answer.items():
        rows += flat_rows(value, f"{prefix}.{key}" if prefix else str(key))
    return rows
