"""Where a store lies: a local folder or any fsspec URL, behind the few operations a store needs.

A local file appears whole or not at all (temporary name, fsync, rename). Object stores give the same with one put.
"""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol
from urllib.parse import unquote, urlsplit

from pipeline.atomic import sync_folder
from pipeline.errors import InputError, MissingPackage, StoreError
from pipeline.processes import is_alive, this_host

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
TEMPORARY = "logs/unfinished"
ABANDONED = 86_400.0  # seconds after which nobody writes to a temporary file any more
NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # of disks in exFAT, say
BUFFER = 1 << 20  # bytes of a file that reach the kernel at once: images come in odd sizes, which it takes slowly


class Place(Protocol):
    """Files below one root, by relative POSIX names."""

    name: str

    def exists(self, name: str) -> bool: ...
    def size(self, name: str) -> int: ...
    def read(self, name: str) -> bytes: ...
    def read_range(self, name: str, start: int, end: int) -> bytes: ...
    def open(self, name: str) -> IO[bytes]: ...
    def writer(self, name: str) -> Any: ...
    def create(self, name: str, content: bytes, *, durable: bool = True) -> bool: ...
    def remove(self, name: str) -> None: ...
    def sweep(self) -> None: ...
    def list(self, folder: str) -> list[str]: ...


def place(location: str | Path) -> LocalPlace | RemotePlace:
    """The place at a path or URL.

    Raises MissingPackage when the URL's protocol needs a package that is not there, InputError when it names no place.
    """
    text = str(location)
    if text.lower().startswith("file:"):
        return LocalPlace(_file_path(text))
    if "://" not in text:
        return LocalPlace(Path(text))
    parts = urlsplit(text)
    try:
        import fsspec

        file_system, root = fsspec.core.url_to_fs(text, **_options(parts.scheme))
    except ImportError as error:
        package = PACKAGES.get(parts.scheme)
        needed = f"needs {package}: pip install {package}" if package else f"needs another package ({error})"
        raise MissingPackage(f"{text}: {needed}") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{text}: not a place this program can reach ({error})") from error
    return RemotePlace(text, file_system, root.rstrip("/"))


def _file_path(url: str) -> Path:
    """The folder that a file URL names; ``#`` and ``?`` are letters of its name, as on disk."""
    path = unquote(url[len("file:") :]).removeprefix("//").removeprefix("localhost")
    if not path.startswith("/"):
        raise InputError(
            f"{url}: a file URL has three slashes and a whole path, as file:///data/stores/x; or give a path"
        )
    return Path(path)


def write(target: Place, name: str, content: bytes) -> None:
    """Write a small file whole."""
    with target.writer(name) as file:
        file.write(content)


def checked(name: str) -> str:
    """``name`` if it stays below the root. Raises StoreError otherwise; names may come from a file somebody made."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or len(name) > 512:
        raise StoreError(f"{name[:80]!r} leaves the store: refused")
    return name


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)

    def __str__(self) -> str:
        return self.name

    def path(self, name: str) -> Path:
        """The file's path. Raises StoreError when ``name`` or a symbolic link in the store leads out of the root."""
        path = self.root / checked(name)
        real = os.path.realpath(path)  # every access asks; Path.resolve takes twice as long
        if real != self._home and not real.startswith(os.path.join(self._home, "")):  # noqa: PTH118
            raise StoreError(f"{path} is a link out of the store: refused")
        return path

    @cached_property
    def _home(self) -> str:
        return os.path.realpath(self.root)

    def exists(self, name: str) -> bool:
        return self.path(name).is_file()

    def size(self, name: str) -> int:
        return self.path(name).stat().st_size

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def read_range(self, name: str, start: int, end: int) -> bytes:
        with (self.root / checked(name)).open("rb") as file:
            return os.pread(file.fileno(), end - start, start)

    def open(self, name: str) -> IO[bytes]:
        return self.path(name).open("rb")

    @contextmanager
    def writer(self, name: str) -> Iterator[IO[bytes]]:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary()
        try:
            with temporary.open("wb", buffering=BUFFER) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, name: str, content: bytes, *, durable: bool = True) -> bool:
        """Write a file unless it is there already; whether it was written. A reader never sees it half-written.

        Where the disk knows no hard links it may be seen empty for a moment.

        Unless ``durable``, the machine's own end may take it back.
        """
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary()
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                path.open("xb").close()  # taken first, then filled: for a moment it is empty
                temporary.replace(path)
            if durable:
                sync_folder(path.parent)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _temporary(self) -> Path:
        """A name under ``logs/``, on the same file system: what a kill leaves behind is then no part of the store."""
        folder = self.path(TEMPORARY)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{this_host()}.{os.getpid()}.{secrets.token_hex(4)}"

    def sweep(self) -> None:
        """Remove what killed processes left half-written: those of this host, and of others what is a day old."""
        for entry in self.list(TEMPORARY):
            host, pid, _ = (*entry.rsplit(".", 2), "", "")[:3]
            here = host == this_host() and pid.isdigit()
            if not is_alive(int(pid)) if here else self._age(f"{TEMPORARY}/{entry}") > ABANDONED:
                self.remove(f"{TEMPORARY}/{entry}")

    def _age(self, name: str) -> float:
        """Seconds since the file was written to; 0 when it is gone."""
        try:
            return time.time() - self.path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def list(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty where there is no such folder."""
        path = self.path(folder) if folder else self.root
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


class RemotePlace:
    """A prefix of an object store, through fsspec."""

    def __init__(self, name: str, file_system: Any, root: str) -> None:
        self.name = name
        self.files = file_system
        self.root = root

    def __str__(self) -> str:
        return self.name

    def path(self, name: str) -> str:
        return f"{self.root}/{checked(name)}" if name else self.root

    def exists(self, name: str) -> bool:
        self.files.invalidate_cache()  # another machine may have written it a moment ago
        return bool(self.files.exists(self.path(name)))

    def size(self, name: str) -> int:
        return int(self.files.size(self.path(name)))

    def read(self, name: str) -> bytes:
        return bytes(self.files.cat_file(self.path(name)))

    def read_range(self, name: str, start: int, end: int) -> bytes:
        content = bytes(self.files.cat_file(self.path(name), start=start, end=end))
        if len(content) > end - start:  # all of the file; web servers may do that
            raise StoreError(f"{self.name}/{name}: this server sends no part of a file by itself (no range requests)")
        return content

    def open(self, name: str) -> IO[bytes]:
        file: IO[bytes] = self.files.open(self.path(name), "rb")
        return file

    @contextmanager
    def writer(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile() as file:
            yield file
            file.flush()
            self.files.put_file(file.name, self.path(name))
        self.files.invalidate_cache()

    def create(self, name: str, content: bytes, *, durable: bool = True) -> bool:
        """Write a file unless it is there already (a conditional put where the store knows one)."""
        try:
            self.files.pipe_file(self.path(name), content, mode="create")
        except FileExistsError:
            return False
        finally:
            self.files.invalidate_cache()
        return True

    def sweep(self) -> None:
        """Nothing to do: a put that did not end left nothing."""

    def remove(self, name: str) -> None:
        if self.exists(name):
            self.files.rm_file(self.path(name))
        self.files.invalidate_cache()

    def list(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; empty where there is no such folder."""
        self.files.invalidate_cache()
        path = self.path(folder)
        try:
            return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self.files.ls(path, detail=False))
        except FileNotFoundError:
            return []


def _options(scheme: str) -> dict[str, Any]:
    # Ranges are read once and never again: fsspec's read-ahead would fetch megabytes for one small image.
    return {"default_cache_type": "none"} if scheme in ("s3", "s3a") else {}
