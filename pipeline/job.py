"""The unit of work: finish shard k of a prior. Every runner does just this, so the bytes do not depend on which one ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.binding import bind
from pipeline.captioners import Captioner, CaptionRequest, make_captioner
from pipeline.claims import Claims
from pipeline.decoding import Decoded, decode, only, pair_bytes
from pipeline.embedders import Embedder, make_embedder
from pipeline.errors import FusionError, StoreError
from pipeline.events import Caption
from pipeline.packing import Packing
from pipeline.place import place, write
from pipeline.plan import PlanRow
from pipeline.prior_rows import prior_rows, stored_caption
from pipeline.shards import (
    FAILED,
    make_marker,
    marker_name,
    row_schema,
    rows_name,
    table_bytes,
    tar_name,
)
from pipeline.store import Store
from pipeline.task_file import load_task


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """All a worker needs to know, as plain values that cross process borders."""

    store: str
    prior: str
    root: str | None  # data root; None: the images are already in the store
    task: str
    captioner: str
    embedder: str
    captioner_settings: Mapping[str, str] = field(default_factory=dict)
    embedder_settings: Mapping[str, str] = field(default_factory=dict)
    captions_of: str | None = None  # a finished prior whose frozen captions are embedded anew
    retry_failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a worker tells after each batch; ``waiting``: for how many shards of other processes it has waited a while."""

    pairs: int
    failed: int
    tokens: int
    shard: int
    finished: bool = False
    waiting: int = 0


Report = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Nobody listens."""


class Job:
    """One worker's hold on a store: captioner and embedder made once, then shard after shard."""

    def __init__(self, spec: JobSpec) -> None:
        """Raises FingerprintMismatch when the prior was begun under other settings."""
        self.spec = spec
        self.store = Store.open(spec.store)
        self.home = place(spec.store)
        self.root = Path(spec.root) if spec.root else None
        self.home.sweep()
        self.task = load_task(spec.task).between(*self.store.header.modalities)
        self.embedder: Embedder = make_embedder(spec.embedder, spec.embedder_settings)
        self.captioner: Captioner | None = None
        if spec.captions_of is None:
            self.captioner = make_captioner(spec.captioner, self.task, spec.captioner_settings)
        self.batch = self.captioner.batch if self.captioner else 0
        bind(self.store, self.home, spec.prior, self.fingerprint(), self.captioner, retry_failed=spec.retry_failed)
        self.claims = Claims(self.home)
        self.claims.sweep()
        self.elsewhere: set[int] = (
            set()
        )  # shards that other processes had when they were asked for, until they are done
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._decoded: dict[int, Future[Decoded]] = {}
        self._committing = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._uncommitted: tuple[Future[bool], Report, int] | None = None

    def finish(self, shard: int, report: Report = ignore, upcoming: int | None = None) -> bool:
        """Make one shard unless it is done or another process has it; whether this call made it.

        It is committed in another thread, in order and one at a time: ``settle`` waits for it. The shard before is settled
        before the captioner is asked again, so that a kill costs no more than the shard in hand.

        ``upcoming``: the shard that comes next, whose images are decoded while this one is captioned, if the captioner
        takes whole shards (one that takes small batches keeps the cores busy by itself).
        """
        self.elsewhere.discard(shard)
        if self.is_done(shard) or not self._take(shard):
            self._decoded.pop(shard, None)
            return False
        with ExitStack() as held:
            held.callback(self.claims.release, shard)
            if self.is_done(shard):  # it was finished between the look and the claim
                return False
            packing = held.enter_context(Packing(self.store, self.home, shard, self.root))
            rows = self._make_rows(shard, packing, report, upcoming)
            self.settle()
            commit = self._committing.submit(self._commit, shard, rows, packing, held.pop_all())
            self._uncommitted = commit, report, shard
        return True

    def _take(self, shard: int) -> bool:
        if not self.claims.take(shard):
            self.elsewhere.add(shard)
            return False
        return True

    def settle(self) -> None:
        """Wait until the shard that was made last is committed. Raises what kept it from that."""
        if self._uncommitted:
            (commit, report, shard), self._uncommitted = self._uncommitted, None
            if commit.result():
                report(Progress(pairs=0, failed=0, tokens=0, shard=shard, finished=True))

    def is_done(self, shard: int) -> bool:
        """Whether the marker is there, its files have their sizes and (under ``retry_failed``) no row failed."""
        try:
            marker = self.store.marker(self.spec.prior, shard)
        except StoreError:  # damaged: it is made again, from rows that are kept
            return False
        if marker is None or (self.spec.retry_failed and marker["failed"]):
            return False
        files = marker["files"]
        names = {rows_name(self.spec.prior, shard), tar_name(shard)}
        return set(files) == names and all(
            self.home.exists(name) and self.home.size(name) == files[name].get("bytes") for name in names
        )

    def close(self) -> None:
        """Give claims, devices and connections back, after a commit that is under way; ``settle`` says whether it failed."""
        self._ahead.shutdown(cancel_futures=True)
        self._committing.shutdown()
        self.claims.close()
        if self.captioner:
            self.captioner.close()

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the prior's content, the telling fields first."""
        if self.captioner:
            captioner = dict(self.captioner.fingerprint())
        else:
            source = str(self.spec.captions_of)
            digest = hashlib.sha256()
            for shard in range(self.store.header.shards):
                digest.update(self.home.read(marker_name(source, shard)))
            captioner = {**self.store.fingerprint(source)["captioner"], "frozen": f"{source} {digest.hexdigest()}"}
        return {
            "captioner": captioner,
            "embedder": {"name": self.embedder.name, **self.embedder.fingerprint(), "width": self.embedder.width},
            "prompt": self.task.prompt(),
            "schema": json.dumps(self.task.schema()),
            "task": self.task.fingerprint(),
            "plan": self.store.header.plan_digest,
        }

    def _make_rows(self, shard: int, packing: Packing, report: Report, upcoming: int | None) -> list[dict[str, Any]]:
        planned = packing.rows
        kept = self._earlier_rows(shard)
        if self.spec.captions_of:
            captions = self._frozen(shard)
            report(Progress(pairs=len(planned), failed=0, tokens=0, shard=shard))
        else:
            wanted = [row for row in planned if row.key not in kept]
            captions = {}
            ready = self._decoded.pop(shard, None)
            if ready is not None:
                packing.fill()  # a file that changed is found before the captioner works for nothing
            for batch in self._batches(wanted):
                decoded = decode(batch, packing.pair) if ready is None else only(ready.result(), batch)
                if upcoming is not None and not self.batch and not self.is_done(upcoming):
                    self._decoded[upcoming] = self._ahead.submit(self._decode, upcoming)
                self.settle()
                answers = self._caption(batch, decoded)
                captions.update(zip((row.key for row in batch), answers, strict=True))
                report(
                    Progress(
                        pairs=len(batch),
                        failed=sum(answer.error_kind is not None for answer in answers),
                        tokens=sum(answer.tokens or 0 for answer in answers),
                        shard=shard,
                    )
                )
        made = prior_rows([row for row in planned if row.key in captions], captions, self.task, self.embedder)
        rows = kept | {row["key"]: row for row in made}
        return [rows[row.key] for row in planned]

    def _batches(self, rows: Sequence[PlanRow]) -> Iterator[Sequence[PlanRow]]:
        size = self.batch or max(1, len(rows))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _decode(self, shard: int) -> Decoded:
        if self.root is None:
            return decode(self.store.shard_rows(shard), self.store.image_bytes)
        if self.home.exists(tar_name(shard)):
            return decode(self.store.shard_rows(shard), partial(self._packed_or_source, root=self.root))
        return decode(self.store.shard_rows(shard), partial(pair_bytes, root=self.root))

    def _packed_or_source(self, row: PlanRow, root: Path) -> tuple[bytes, bytes]:
        """Both files of a pair, from the source where the tar is damaged: it is then about to be made again."""
        try:
            files = self.store.image_bytes(row)
        except StoreError:
            return pair_bytes(row, root)
        planned = (row.first_sha256, row.second_sha256)
        return files if tuple(hashlib.sha256(file).hexdigest() for file in files) == planned else pair_bytes(row, root)

    def _caption(self, rows: Sequence[PlanRow], decoded: Decoded) -> list[Caption]:
        requests = [entry for entry in decoded.values() if isinstance(entry, CaptionRequest)]
        captions = self.captioner.caption(requests) if requests and self.captioner else []
        if len(captions) != len(requests):
            raise FusionError(f"{self.spec.captioner} gave {len(captions)} answers to {len(requests)} pairs")
        answers = {key: entry for key, entry in decoded.items() if isinstance(entry, Caption)}
        answers.update({request.key: caption for request, caption in zip(requests, captions, strict=True)})
        return [answers[row.key] for row in rows]

    def _earlier_rows(self, shard: int) -> dict[str, dict[str, Any]]:
        """Rows of a shard file that was committed before: all of them, or those that did not fail when retrying.

        A whole Parquet file without its marker comes from a kill between the two; its captions are kept, not made again.
        """
        if not self.home.exists(rows_name(self.spec.prior, shard)):
            return {}
        try:
            rows = self.store.shard_table(self.spec.prior, shard).to_pylist()
        except StoreError:
            return {}
        return {row["key"]: row for row in rows if not (self.spec.retry_failed and row["status"] == FAILED)}

    def _frozen(self, shard: int) -> dict[str, Caption]:
        rows = self.store.shard_table(str(self.spec.captions_of), shard).to_pylist()
        return {row["key"]: stored_caption(row) for row in rows}

    def _commit(self, shard: int, rows: Sequence[Mapping[str, Any]], packing: Packing, held: ExitStack) -> bool:
        """Tar, rows, marker, each durable before the next is begun; False when the claim was lost meanwhile."""
        import pyarrow as pa

        with held:
            tar = packing.finish()
            if not self.claims.is_mine(shard):
                self.elsewhere.add(shard)
                return False
            name, marker = rows_name(self.spec.prior, shard), marker_name(self.spec.prior, shard)
            content = table_bytes(pa.Table.from_pylist(list(rows), schema=row_schema(self.embedder.width)))
            self.home.remove(marker)  # a marker never stands beside rows it does not describe
            write(self.home, name, content)
            table = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            files: dict[str, Mapping[str, object]] = {name: table, tar_name(shard): tar}
            write(self.home, marker, make_marker(shard, rows, self.task.events, files))
        return True
