"""The store's README: what it holds, who made the data, and how to read it without this project."""

from __future__ import annotations

from collections import Counter

from pipeline.errors import ManifestError
from pipeline.manifest import load_manifest
from pipeline.place import write
from pipeline.shards import FAILED
from pipeline.store import Store

CARD = "README.md"


def write_card(store: Store) -> None:
    """Write ``README.md``; its content follows from the store alone."""
    write(store.place, CARD, card(store).encode())


def card(store: Store) -> str:
    """The dataset card in Markdown, with the Hub's metadata block."""
    header = store.header
    first, second = header.modalities
    title, terms, homepage, citation = header.dataset, "", "", ""
    try:
        manifest = load_manifest(header.dataset)
        title, terms, homepage, citation = manifest.title, manifest.terms, manifest.homepage, manifest.citation
    except ManifestError:
        terms = "not described: made from two folders"
    splits = ", ".join(f"{name} {count:,}" for name, count in header.splits.items())
    configs = [
        f"- config_name: {prior}\n  data_files: priors/{prior}/*.parquet"
        for prior in store.prior_names()
        if len(store.finished(prior)) == header.shards
    ]
    lines = [
        "---",
        "tags: [image-fusion, webdataset]",
        *(["configs:", *configs] if configs else []),
        "---",
        f"# {title}: images and text priors",
        "",
        f"{header.pairs:,} pairs ({first}, {second}) in {header.shards:,} shards of {header.shard_size}; splits: {splits}.",
        "",
        f"- Images: `images/shard-*.tar`, the original files as `<key>.{first}.<ext>` and `<key>.{second}.<ext>`.",
        "- Plan: `plan.parquet`, one row a pair, in order, with SHA-256 of both files.",
        "- Text priors: `priors/<name>/shard-*.parquet`: events, caption, embedding and loss weights, rows as in the plan.",
        "",
        *[line for prior in store.prior_names() for line in _prior_lines(store, prior)],
        "## Reading it",
        "",
        "```python",
        'datasets.load_dataset("parquet", data_files="priors/text/*.parquet")',
        'webdataset.WebDataset("images/shard-000000.tar", shardshuffle=False)',
        'pyarrow.parquet.read_table("plan.parquet")',
        "```",
        "",
        "## Terms",
        "",
        f"{terms or 'not stated'}  ",
        f"Home page: {homepage or 'none'}  ",
        f"Citation: {citation or 'none'}",
    ]
    return "\n".join(lines) + "\n"


def _prior_lines(store: Store, prior: str) -> list[str]:
    if len(store.finished(prior)) < store.header.shards:
        return []
    labels: Counter[str] = Counter()
    failed = 0
    for shard in range(store.header.shards):
        table = store.shard_table(prior, shard, ["status", "events"])
        labels.update(event["type"] for events in table["events"].to_pylist() for event in events or ())
        failed += table["status"].to_pylist().count(FAILED)
    fingerprint = store.fingerprint(prior)
    return [
        f"## Prior `{prior}`",
        "",
        f"Captions by {fingerprint['captioner']['name']}, embedded by {fingerprint['embedder']['name']}; {failed} failed.",
        "",
        "| event | times |",
        "|---|---:|",
        *[f"| {label} | {count} |" for label, count in sorted(labels.items(), key=lambda item: (-item[1], item[0]))],
        "",
    ]
