"""The store's README: what it holds, who made the data, and how to read it without this project."""

from __future__ import annotations

import json
from collections import Counter

from pipeline.place import write
from pipeline.shards import FAILED
from pipeline.store import ABOUT, Store
from pipeline.words import counted

CARD = "README.md"
COLUMNS = (
    ("key, pair_id", "name of the pair; hash of both files"),
    ("status, error_kind, error", "ok, or failed and why: a failed pair is a row too"),
    ("caption, scene, raw_response", "what was said, in words; the scene; the answer as it came"),
    ("events", "degradations: modality, type, severity, description"),
    ("clip_text, tokens, dropped_events", "the text that was embedded, its length, events that did not fit"),
    ("text_embedding", "float32, unit length"),
    ("loss_weights", "weights of the five loss terms that follow from the events"),
    ("finish_reason, response_tokens", "how the model ended its answer"),
)


def write_card(store: Store) -> None:
    """Write ``README.md``; its content follows from the store alone."""
    write(store.place, CARD, card(store).encode())


def card(store: Store) -> str:
    """The dataset card in Markdown, with the Hub's metadata block."""
    header = store.header
    first, second = header.modalities
    about = _about(store)
    title = f"{about['title']}: images and text priors"
    finished = [prior for prior in store.prior_names() if len(store.finished(prior)) == header.shards]
    splits = ", ".join(f"{name} {count:,}" for name, count in header.splits.items())
    lines = [
        "---",
        f"pretty_name: {json.dumps(title, ensure_ascii=False)}",
        "license: other",
        "license_name: terms-of-the-source-images",
        "task_categories: [image-to-image]",
        f"size_categories: [{_size(header.pairs)}]",
        f"tags: [image-fusion, {header.task}, webdataset]",
        "configs:",
        *[_config(prior, f"priors/{prior}/*.parquet") for prior in finished],
        _config("plan" if "plan" not in finished else "order", "plan.parquet"),
        "---",
        f"# {title}",
        "",
        f"{counted(header.pairs, 'pair')} ({first}, {second}) in {counted(header.shards, 'shard')} of {header.shard_size}; splits: {splits}.",
        "Each pair of aligned images comes with what is said of its degradations: for training and judging image fusion.",
        "",
        f"- Images: `images/shard-*.tar`, the original files as `<key>.{first}.<ext>` and `<key>.{second}.<ext>`.",
        "- Plan: `plan.parquet`, one row a pair, in order, with split, sizes and SHA-256 of both files.",
        "- Text priors: `priors/<name>/shard-*.parquet`, rows as in the plan:",
        "",
        "| column | what |",
        "|---|---|",
        *[f"| `{name}` | {meaning} |" for name, meaning in COLUMNS],
        "",
        *[line for prior in store.prior_names() for line in _prior_lines(store, prior)],
        "## Reading it",
        "",
        "No code of the repository is run and none is needed; `STORE` is this folder or its id on the Hub.",
        "",
        "```python",
        *[
            f'datasets.load_dataset("STORE", "{prior}", split="train")  # every row; column key'
            for prior in finished[:1]
        ],
        'datasets.load_dataset("webdataset", data_files="STORE/images/*.tar", split="train")',
        'webdataset.WebDataset("images/shard-000000.tar", shardshuffle=False)',
        'pyarrow.parquet.read_table("plan.parquet")',
        "```",
        "",
        "`datasets` calls all of it `train`; the split of a pair is in the plan.",
        "",
        "## How it was made",
        "",
        f"By `fusioncli caption`. Task `{header.task}` names the degradations and their loss weights. Digests: plan "
        f"`{header.plan_digest[:16]}`, manifest `{header.manifest_digest[:16]}`; `fingerprint.json` beside each prior names "
        "model, revision, prompt and settings.",
        "",
        "## Limits",
        "",
        "The texts are a program's, not a person's: degradations are missed and invented, and nobody has read them all. The "
        "images may show people and places; nothing was made unrecognisable.",
        "",
        "## Terms",
        "",
        f"{about['terms'] or 'not stated'}  ",
        f"Home page: {about['homepage'] or 'none'}  ",
        f"Citation: {about['citation'] or 'none'}",
    ]
    return "\n".join(lines) + "\n"


def _config(name: str, files: str) -> str:
    """One of the header's configs, quoted: a name may look like YAML's dates, numbers or booleans."""
    return f"- config_name: {json.dumps(name)}\n  data_files: {json.dumps(files)}"


def _about(store: Store) -> dict[str, str]:
    """Title, terms, home page and citation, as they were when the pairs were planned."""
    try:
        known = json.loads(store.place.read(ABOUT))
        return {key: str(known[key]) for key in ("title", "terms", "homepage", "citation")}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {"title": store.header.dataset, "terms": "", "homepage": "", "citation": ""}


def _size(pairs: int) -> str:
    """The Hub's name for how many rows there are."""
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return next((name for bound, name in bounds if pairs < bound), "n>1M" if pairs > 10_000_000 else "1M<n<10M")


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
