"""What a store holds, as plain values: for people and for scripts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.captioning import summarise
from pipeline.errors import StoreError, closest
from pipeline.shards import FAILED, tar_members, tar_size
from pipeline.store import Store


def describe_store(store: Store, prior: str | None = None) -> dict[str, Any]:
    """Header, image bytes, and per prior: back ends, progress, failures by kind, events."""
    header = asdict(store.header)
    header["modalities"] = ", ".join(store.header.modalities)
    sizes = [tar_size(tar_members(store.shard_rows(k), store.header.modalities)) for k in range(store.header.shards)]
    priors = {name: _describe_prior(store, name) for name in ([prior] if prior else store.prior_names())}
    return {**header, "image_bytes": sum(sizes), "digest": store.digest(), "priors": priors}


def describe_pair(store: Store, key: str, prior: str | None = None) -> dict[str, Any]:
    """Plan row and every prior's row of one pair (without the embedding). Raises StoreError for an unknown key."""
    row = next((row for row in store.plan() if row.key == key), None)
    if row is None:
        keys = [row.key for row in store.plan()]
        raise StoreError(f"{store.name}: no pair with key {key!r}{closest(key, keys)}; it has {len(keys)}")
    said: dict[str, Any] = {}
    for name in [prior] if prior else store.prior_names():
        store.fingerprint(name)
        if row.shard not in store.finished(name):
            said[name] = "not captioned yet"
            continue
        rows = store.shard_table(name, row.shard).to_pylist()
        found = next(entry for entry in rows if entry["key"] == key)
        vector = found.pop("text_embedding")
        said[name] = {**found, "text_embedding": f"{len(vector)} numbers" if vector else None}
    return {**asdict(row), "priors": said}


def _describe_prior(store: Store, prior: str) -> dict[str, Any]:
    fingerprint = store.fingerprint(prior)
    summary = summarise(store, prior)
    events: Counter[str] = Counter()
    failed: list[str] = []
    for shard in store.finished(prior):
        rows = store.shard_table(prior, shard, ["key", "status", "events"]).to_pylist()
        events.update(event["type"] for row in rows for event in row["events"] or ())
        failed += [row["key"] for row in rows if row["status"] == FAILED]
    return {
        "captioner": fingerprint["captioner"].get("model") or fingerprint["captioner"]["name"],
        "embedder": fingerprint["embedder"]["name"],
        "shards_done": f"{summary.done} of {summary.shards}",
        "pairs": summary.pairs,
        "failed": summary.failed,
        "errors": summary.errors,
        "failed_keys": ", ".join(failed[:20]) + (" …" if len(failed) > 20 else ""),
        "unknown_labels": summary.unknown_labels,
        "events": dict(events.most_common()),
    }
