"""Where the page's files lie: one temporary folder, under names nobody can guess, the oldest thrown out first."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

GONE = "that file is no longer here; give it again"
LONGEST = 120  # letters of a name; the ending stays
KEPT = 96  # files: the last thirty pairs with what came of them


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file on the shelf; ``name`` is what people call it, ``path`` where it lies."""

    token: str
    name: str
    path: Path


class Shelf:
    """Holds at most ``kept`` files. Safe to use from several threads; ``close`` removes everything."""

    def __init__(self, kept: int = KEPT) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fusioncli-demo-", ignore_cleanup_errors=True)
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._lock = threading.Lock()
        self.kept = kept

    @property
    def folder(self) -> Path:
        """The temporary folder."""
        return Path(self._folder.name)

    def place(self, name: str) -> Item:
        """Room for a new file called ``name``; only its suffix becomes part of the path."""
        token = secrets.token_urlsafe(16)
        plain = Path(name)
        suffix = plain.suffix.lower()
        path = self.folder / (token + (suffix if suffix.isascii() and suffix[1:].isalnum() and len(suffix) < 7 else ""))
        item = Item(
            token=token, name=plain.stem[: LONGEST - len(suffix)] + plain.suffix[:LONGEST] or "image", path=path
        )
        with self._lock:
            self._items[token] = item
            stale = [self._items.popitem(last=False)[1] for _ in range(len(self._items) - self.kept)]
        for old in stale:
            self._remove(old)
        return item

    def find(self, token: str) -> Item:
        """The file of that token. Raises InputError when it is not, or no longer, there."""
        with self._lock:
            item = self._items.get(token)
        if item is None or not item.path.is_file():
            raise InputError(GONE)
        return item

    def drop(self, item: Item) -> None:
        """Take a file off the shelf."""
        with self._lock:
            self._items.pop(item.token, None)
        self._remove(item)

    def close(self) -> None:
        """Remove the folder with all that is in it, and what somebody still at work puts there meanwhile."""
        self._folder.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self, item: Item) -> None:
        for path in self.folder.glob(f"{item.token}*"):  # the file, its preview, other formats of it
            path.unlink(missing_ok=True)
