"""Where a store lies: a folder or any fsspec URL. Reading, and writing that is whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline.atomic import write_bytes
from pipeline.errors import InputError, StoreError


class Place:
    """A root and the files under it by relative POSIX path; no path may leave it."""

    def __init__(self, location: str | Path) -> None:
        import fsspec

        try:
            self.files, self.root = fsspec.core.url_to_fs(str(location))
        except (ValueError, ImportError) as error:
            raise InputError(f"{location}: {error}") from error
        self.location = str(location)
        self.is_local = "file" in self.files.protocol

    def __str__(self) -> str:
        return self.location

    def path(self, name: str) -> str:
        """The full path of ``name``. Raises StoreError for one that leaves the root."""
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name or not name:
            raise StoreError(f"{self.location}: the name {name!r} leaves the store")
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether ``name`` is there."""
        return bool(self.files.exists(self.path(name)))

    def read(self, name: str) -> bytes:
        """The whole of ``name``. Raises StoreError when it is missing."""
        try:
            content: bytes = self.files.cat_file(self.path(name))
        except FileNotFoundError as error:
            raise StoreError(f"{self.location}: {name} is missing") from error
        return content

    def open(self, name: str) -> IO[bytes]:
        """``name`` for random access."""
        file: IO[bytes] = self.files.open(self.path(name), "rb")
        return file

    def write(self, name: str, content: bytes) -> None:
        """Put ``content`` there: locally by temporary name, fsync and rename; remotely in one upload."""
        path = self.path(name)
        if self.is_local:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(Path(path), content)
        else:
            self.files.pipe_file(path, content)

    def names(self, folder: str) -> list[str]:
        """Base names in a folder, sorted; empty when there is no such folder."""
        try:
            entries: list[Any] = self.files.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def sha256(self, name: str) -> str:
        """Hex digest of a file's content, read in pieces. Raises StoreError when it is missing."""
        digest = hashlib.sha256()
        try:
            with self.open(name) as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except FileNotFoundError as error:
            raise StoreError(f"{self.location}: {name} is missing") from error
        return digest.hexdigest()
