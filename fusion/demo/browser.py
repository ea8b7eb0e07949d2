"""Looking into a store from the page: pairs a page at a time, by event, with both images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.errors import InputError, StoreError
from pipeline.images import read_image
from pipeline.plan import PlanRow
from pipeline.store import Store

PAGE = 12  # pairs
SIDE = 480  # pixels on the longer side of a picture


class StoreBrowser:
    """Reads one store; nothing outside it. A local one that has changed is opened anew; one on a server is not."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._opened = _state(location), OpenStore(Store.open(location))
        self.name = self._opened[1].store.name

    def page(self, number: int, event: str = "", prior: str = "") -> dict[str, Any]:
        """As ``OpenStore.page``. Raises StoreError when the store is not there any more."""
        return self._current().page(number, event, prior)

    def picture(self, key: str, side: int) -> bytes:
        """As ``OpenStore.picture``. Raises StoreError when the store is not there any more."""
        return self._current().picture(key, side)

    def _current(self) -> OpenStore:
        state, opened = _state(self.location), self._opened
        if state != opened[0]:
            self._opened = opened = state, OpenStore(Store.open(self.location))
        return opened[1]


def _state(location: str) -> frozenset[tuple[str, int, int]]:
    """Name, time and size of all that is read but once: everything but the images. Empty for what is no folder here."""
    files = (path for path in Path(location).rglob("*") if path.suffix in (".json", ".parquet"))
    found = set()
    for path in files:
        with suppress(FileNotFoundError):  # gone in between
            about = path.stat()
            found.add((str(path), about.st_mtime_ns, about.st_size))
    return frozenset(found)


class OpenStore:
    """A store as it is at one time. ``prior`` defaults to the first one that is finished."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def priors(self) -> list[str]:
        """The priors that are finished by now."""
        shards = self.store.header.shards
        return [name for name in self.store.prior_names() if len(self.store.finished(name)) == shards]

    def page(self, number: int, event: str = "", prior: str = "") -> dict[str, Any]:
        """Pairs ``number * PAGE`` onwards that name ``event`` ("" for all), with captions, events and errors.

        Of a number past the last page, the last page.
        """
        priors = self.priors()
        if prior and prior not in priors:
            raise InputError(f"no finished prior {prior!r}; there are {', '.join(priors) or 'none'}")
        chosen = prior or (priors[0] if priors else "")
        said = self._said(chosen) if chosen else {}
        rows: Sequence[PlanRow] = self.store.plan()
        labels = sorted({one["type"] for row in said.values() for one in row["events"] or ()})
        if event:
            rows = [
                row for row in rows if any(one["type"] == event for one in said.get(row.key, {}).get("events") or ())
            ]
        pages = max(1, -(-len(rows) // PAGE))
        number = min(number, pages - 1)
        shown = rows[number * PAGE : (number + 1) * PAGE]
        return {
            "name": self.store.header.dataset,
            "modalities": self.store.header.modalities,
            "priors": priors,
            "prior": chosen,
            "labels": labels,
            "total": len(rows),
            "page": number,
            "pages": pages,
            "pairs": [
                {
                    "key": row.key,
                    "split": row.split,
                    "size": f"{row.width} × {row.height}",
                    "caption": said.get(row.key, {}).get("caption") or "",
                    "error": said.get(row.key, {}).get("error") or "",
                    "events": [
                        {"modality": one["modality"], "type": one["type"], "severity": one["severity"]}
                        for one in said.get(row.key, {}).get("events") or ()
                    ],
                }
                for row in shown
            ],
        }

    def picture(self, key: str, side: int) -> bytes:
        """One image of a pair as a small PNG; ``side`` is 0 or 1. Raises StoreError for an unknown key."""
        row = self._by_key.get(key)
        if row is None or side not in (0, 1):
            raise StoreError(f"{self.store.header.dataset}: no such picture")
        decoded = read_image(self.store.image_bytes(row)[side], name=key)
        image = Image.fromarray((decoded.as_rgb() * 255 + 0.5).astype("uint8"))
        image.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()

    @cached_property
    def _by_key(self) -> dict[str, Any]:
        return {row.key: row for row in self.store.plan()}

    def _said(self, prior: str) -> dict[str, dict[str, Any]]:
        if prior not in self._cache:
            table = self.store.rows(prior, ["key", "caption", "events", "error"])
            self._cache[prior] = {row["key"]: row for row in table.to_pylist()}
        return self._cache[prior]

    @cached_property
    def _cache(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {}
