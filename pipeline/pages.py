"""Self-contained HTML about a store: the report of a prior, and the pairs on which two priors differ. No script runs in it."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.events import SEVERITIES
from pipeline.images import read_image
from pipeline.plan import PlanRow
from pipeline.shards import OK
from pipeline.store import Store

THUMBNAIL = 200  # pixels on the longer side
PALETTE = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e")
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:1em}
figure{margin:0;border:1px solid #ddd;padding:.5em;border-radius:4px}figure img{width:49%}figcaption{font-size:13px}code{font-size:12px;color:#666}
svg{border:1px solid #ddd}.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}
@media (prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th,figure,svg{border-color:#444}}
"""


def report_page(store: Store, prior: str, pictures: int = 24) -> str:
    """The report of one prior. Raises StoreError when it is unfinished."""
    rows = store.rows(prior).to_pylist()
    good = [row for row in rows if row["status"] == OK]
    events = Counter((event["type"], event["severity"] or "–") for row in good for event in row["events"])
    kinds = Counter(row["error_kind"] for row in rows if row["status"] != OK)
    lengths = [len((row["caption"] or "").split()) for row in good]
    tokens = [row["tokens"] for row in good]
    fingerprint = store.fingerprint(prior)
    labels = sorted(
        {label for label, _ in events}, key=lambda label: -sum(n for (k, _), n in events.items() if k == label)
    )
    severities = (*SEVERITIES, "–")
    parts = [
        table(
            ("", ""),
            [
                ("data set", store.header.dataset),
                ("pairs", store.header.pairs),
                ("captioned", len(good)),
                ("failed", len(rows) - len(good)),
                ("captioner", fingerprint["captioner"].get("model") or fingerprint["captioner"]["name"]),
                ("embedder", fingerprint["embedder"]["name"]),
                ("words a caption (min, median, max)", _spread(lengths)),
                ("embedded tokens (min, median, max)", _spread(tokens)),
                ("events dropped for length", sum(row["dropped_events"] for row in good)),
            ],
        ),
        "<h2>Events</h2>",
        table(
            ("event", *severities, "all"),
            [
                (label, *(events[label, s] for s in severities), sum(events[label, s] for s in severities))
                for label in labels
            ],
        ),
    ]
    if kinds:
        parts += ["<h2>Failures</h2>", table(("kind", "pairs"), sorted(kinds.items()))]
    parts += ["<h2>Embeddings</h2>", _map(good)]
    step = max(1, len(rows) // pictures)
    by_key = {row["key"]: row for row in rows}
    chosen = store.plan()[::step][:pictures]
    parts += ["<h2>Pairs</h2>", contact_sheet(store, chosen, {row.key: [_said(by_key[row.key])] for row in chosen})]
    return page(f"{store.header.dataset}: prior {prior}", parts)


def compare_page(store: Store, first: str, second: str, keys: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The pairs on which two priors differ most, pictures included."""
    said: list[dict[str, Any]] = [{row["key"]: row for row in store.rows(name).to_pylist()} for name in (first, second)]
    wanted = set(keys)
    order = {key: position for position, key in enumerate(keys)}
    chosen = sorted((row for row in store.plan() if row.key in wanted), key=lambda row: order[row.key])
    notes = {
        row.key: [f"{name}: {_said(by[row.key])}" for name, by in zip((first, second), said, strict=True)]
        for row in chosen
    }
    header = ("event", "both", f"only {first}", f"only {second}", "precision", "recall")
    parts = [table(header, rows), "<h2>Where they differ most</h2>", contact_sheet(store, chosen, notes)]
    return page(f"{store.header.dataset}: {first} and {second}", parts)


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document. Its policy forbids scripts and any loading."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title><style>{STYLE}</style></head>'
        f"<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table, everything escaped."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def contact_sheet(store: Store, rows: Sequence[PlanRow], notes: Mapping[str, Sequence[str]]) -> str:
    """Both images of every pair, small, with their notes."""
    figures = []
    for row in rows:
        images = "".join(_thumbnail(content, row.key) for content in store.image_bytes(row))
        text = "<br>".join(html.escape(note) for note in notes[row.key])
        figures.append(
            f"<figure>{images}<figcaption><code>{html.escape(row.key)}</code><br>{text}</figcaption></figure>"
        )
    return f'<div class="pairs">{"".join(figures)}</div>'


def _cell(cell: object) -> str:
    number = ' class="n"' if isinstance(cell, int | float) else ""
    return f"<td{number}>{html.escape(str(cell))}</td>"


def _said(row: Mapping[str, Any]) -> str:
    return str(row["caption"]) if row["status"] == OK else f"{row['error_kind']}: {row['error']}"


def _spread(values: Sequence[int]) -> str:
    return f"{min(values)}, {int(np.median(values))}, {max(values)}" if values else "–"


def _thumbnail(content: bytes, name: str) -> str:
    try:
        picture = read_image(content, name=name)
    except ImageError as error:
        return f"<p>{html.escape(str(error))}</p>"
    image = Image.fromarray((picture.as_rgb() * 255).round().astype(np.uint8))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return (
        f'<img alt="{html.escape(name)}" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def _map(rows: Sequence[Mapping[str, Any]]) -> str:
    """Embeddings on their first two principal axes, coloured by the first event that is named."""
    if len(rows) < 3:
        return "<p>Too few pairs for a map.</p>"
    vectors = np.array([row["text_embedding"] for row in rows], dtype=np.float64)
    vectors -= vectors.mean(axis=0)
    _, scale, axes = np.linalg.svd(vectors, full_matrices=False)
    points = vectors @ axes[:2].T
    span = np.abs(points).max() or 1.0
    labels = [row["events"][0]["type"] if row["events"] else "none" for row in rows]
    colours = {label: PALETTE[i % len(PALETTE)] for i, (label, _) in enumerate(Counter(labels).most_common())}
    dots = "".join(
        f'<circle cx="{300 + 280 * x / span:.1f}" cy="{200 - 180 * y / span:.1f}" r="3" fill="{colours[label]}" '
        f'fill-opacity=".7"><title>{html.escape(str(row["key"]))}: {html.escape(label)}</title></circle>'
        for (x, y), label, row in zip(points, labels, rows, strict=True)
    )
    share = float((scale[:2] ** 2).sum() / max((scale**2).sum(), 1e-12))
    keys = "".join(
        f'<span class="key" style="background:{c}"></span>{html.escape(label)}' for label, c in colours.items()
    )
    note = f"<p>First two principal axes, {100 * share:.0f} % of the variance; colour: the first event named.</p>"
    return f'<svg viewBox="0 0 600 400" width="600" height="400">{dots}</svg><p>{keys}</p>{note}'
