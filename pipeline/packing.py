"""A shard's images on their way into its tar: every source file is read once, checked, written and handed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from pipeline.decoding import pair_bytes
from pipeline.errors import StoreError
from pipeline.place import Place
from pipeline.plan import PlanRow
from pipeline.shards import TarWriter, tar_members, tar_name, tar_size
from pipeline.store import Store
from pipeline.verify import tar_problems


class Packing:
    """The tar of one shard while it is made; a whole one that is there already is only read.

    A context: leaving it finishes the tar, which then appears whole; an exception leaves nothing behind. One thread at a
    time may use it, not always the same one.
    """

    def __init__(self, store: Store, home: Place, shard: int, root: Path | None) -> None:
        self.store, self.home, self.root = store, home, root
        self.name = tar_name(shard)
        self.rows = store.shard_rows(shard)
        self.members = tar_members(self.rows, store.header.modalities)
        self.size = tar_size(self.members)
        self.digest = self._digest_found()
        self._open = ExitStack()
        self._tar: TarWriter | None = None
        self._packed: Iterator[tuple[PlanRow, tuple[bytes, bytes]]] = iter(())

    def __enter__(self) -> Packing:
        """Raises StoreError when there is neither a whole tar nor a data ``root`` to make one from."""
        if self.digest is None:
            if self.root is None:
                raise StoreError(
                    f"{self.store.name}/{self.name}: missing or damaged; give --root so that it can be made again"
                )
            self._tar = TarWriter(self._open.enter_context(self.home.writer(self.name)))
            self._packed = self._pack(self._tar, self.root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if failure is None:
            self.finish()
        self._open.__exit__(kind, failure, trace)

    def pair(self, row: PlanRow) -> tuple[bytes, bytes]:
        """Both files of a pair of this shard, asked for in the order of the plan; the pairs before it are packed too.

        Raises StoreError when a source file is not the one that was planned.
        """
        if self._tar is None:
            return self.store.image_bytes(row)
        return next(contents for packed, contents in self._packed if packed.key == row.key)

    def fill(self) -> None:
        """Pack all that is left. Raises StoreError as ``pair`` does."""
        for _ in self._packed:
            pass

    def finish(self) -> dict[str, object]:
        """Make the whole tar durable; its size and digest, as the done-marker states them."""
        if self._tar is not None:
            self.fill()
            self.digest, self._tar = self._tar.finish(), None
            self._open.close()
        return {"bytes": self.size, "members_sha256": self.digest}

    def _pack(self, tar: TarWriter, root: Path) -> Iterator[tuple[PlanRow, tuple[bytes, bytes]]]:
        for row, *members in zip(self.rows, self.members[::2], self.members[1::2], strict=True):
            contents = pair_bytes(row, root)
            hashes = row.first_sha256, row.second_sha256  # which the contents were found to have
            for member, content, sha256 in zip(members, contents, hashes, strict=True):
                tar.add(member, content, sha256)
            yield row, contents

    def _digest_found(self) -> str | None:
        """The digest of the tar that is there if every byte of it is as planned, else None."""
        if not self.home.exists(self.name) or self.home.size(self.name) != self.size:
            return None
        problems, digest = tar_problems(self.home, self.name, self.rows, self.store.header.modalities)
        return None if problems else digest
