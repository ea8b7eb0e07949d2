"""Files that are either whole or not there: written beside their place, synced, renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})  # how a disk refuses bytes


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in ``path``'s folder; on success it becomes ``path``, on any error it is removed.

    The temporary name keeps the suffix, because encoders choose the format by it. OSError passes through
    (full disk, no permission); the command line turns it into one sentence.
    """
    temporary = path.with_name(f".{path.stem[:80]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if (error.filename is None and error.errno in REFUSED) or str(error.filename) == str(temporary):
            error.filename = str(path)  # a write names no file, and nobody knows the hidden name
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, of which none takes its place before all are written; then in the order given.

    Raises IsADirectoryError, before anything is written, where a folder has the place of one.
    """
    for path in contents:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder where a file is to be written", str(path))
    with ExitStack() as files:
        waiting = [
            (files.enter_context(atomic_path(path)), content) for path, content in reversed(list(contents.items()))
        ]
        for temporary, content in waiting:
            temporary.write_bytes(content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (``encoded``) to ``path`` atomically."""
    write_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    """``text`` in UTF-8.

    Bytes of a file name that are in no encoding are written as ``\\udcfc`` and the like, which JSON reads back as they were.
    """
    return text.encode(errors="backslashreplace")


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
