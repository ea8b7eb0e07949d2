"""The unit of work: finish shard k of a prior. Every runner does just this, so the bytes do not depend on which one ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.captioners import Captioner, CaptionRequest, make_captioner
from pipeline.claims import Claims
from pipeline.decoding import Decoded, decode, only, pair_bytes
from pipeline.embedders import Embedder, make_embedder
from pipeline.errors import FingerprintMismatch, FusionError, StoreError
from pipeline.events import Caption
from pipeline.fingerprints import first_difference
from pipeline.place import place, write
from pipeline.plan import PlanRow
from pipeline.prior_rows import prior_rows, stored_caption
from pipeline.shards import (
    FAILED,
    TarWriter,
    make_marker,
    marker_name,
    row_schema,
    rows_name,
    table_bytes,
    tar_members,
    tar_name,
    tar_size,
)
from pipeline.store import Store
from pipeline.tasks import load_task


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
    """What a worker tells after each batch."""

    pairs: int
    failed: int
    tokens: int
    shard: int
    finished: bool = False


Report = Callable[[Progress], None]


class Job:
    """One worker's hold on a store: captioner and embedder made once, then shard after shard."""

    def __init__(self, spec: JobSpec) -> None:
        """Raises FingerprintMismatch when the prior was begun under other settings."""
        self.spec = spec
        self.store = Store.open(spec.store)
        self.home = place(spec.store)
        self.home.sweep()
        self.task = load_task(spec.task).between(*self.store.header.modalities)
        self.embedder: Embedder = make_embedder(spec.embedder, spec.embedder_settings)
        self.captioner: Captioner | None = None
        if spec.captions_of is None:
            self.captioner = make_captioner(spec.captioner, self.task, spec.captioner_settings)
        self._bind()
        self.claims = Claims(self.home)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._decoded: dict[int, Future[Decoded]] = {}

    def finish(self, shard: int, report: Report = lambda _: None, upcoming: int | None = None) -> bool:
        """Finish one shard unless it is done or another process has it; whether this call finished it.

        ``upcoming``: the shard that comes next, whose images are decoded while this one is captioned, if the captioner
        takes whole shards (one that takes small batches keeps the cores busy by itself).
        """
        if self.is_done(shard) or not self.claims.take(shard):
            self._decoded.pop(shard, None)
            return False
        try:
            if self.is_done(shard):  # it was finished between the look and the claim
                return False
            rows, tar = self._make_rows(shard, report, upcoming)
            if not self.claims.is_mine(shard):
                return False
            self._commit(shard, rows, tar)
        finally:
            self.claims.release(shard)
        report(Progress(pairs=0, failed=0, tokens=0, shard=shard, finished=True))
        return True

    def is_done(self, shard: int) -> bool:
        """Whether the marker is there, its files have their sizes and (under ``retry_failed``) no row failed."""
        marker = self.store.marker(self.spec.prior, shard)
        if marker is None or (self.spec.retry_failed and marker.get("failed")):
            return False
        files = marker.get("files", {})
        names = {rows_name(self.spec.prior, shard), tar_name(shard)}
        return set(files) == names and all(
            self.home.exists(name) and self.home.size(name) == files[name]["bytes"] for name in names
        )

    def close(self) -> None:
        """Give claims, devices and connections back."""
        self._ahead.shutdown(cancel_futures=True)
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

    def _bind(self) -> None:
        """Write the fingerprint on first use; afterwards refuse any other."""
        name = f"priors/{self.spec.prior}/fingerprint.json"
        now = self.fingerprint()
        content = json.dumps(now, indent=1, ensure_ascii=False).encode() + b"\n"
        if not self.home.exists(name) and self.home.create(name, content):
            return
        difference = first_difference(self.store.fingerprint(self.spec.prior), now)
        if difference:
            raise FingerprintMismatch(
                f"{self.store.name}: prior {self.spec.prior!r} was begun with {difference}; run it with the settings it "
                "was begun with, or give the new one a name of its own with --prior NAME"
            )

    def _make_rows(
        self, shard: int, report: Report, upcoming: int | None
    ) -> tuple[list[dict[str, Any]], tuple[int, str]]:
        planned = self.store.shard_rows(shard)
        kept = self._earlier_rows(shard)
        tar = self._write_tar(shard, planned)
        if self.spec.captions_of:
            captions = self._frozen(shard)
            report(Progress(pairs=len(planned), failed=0, tokens=0, shard=shard))
        else:
            wanted = [row for row in planned if row.key not in kept]
            captions = {}
            ready = self._decoded.pop(shard, None)
            for batch in self._batches(wanted):
                decoded = self._decode(batch) if ready is None else only(ready.result(), batch)
                if upcoming is not None and not getattr(self.captioner, "batch", 0) and not self.is_done(upcoming):
                    self._decoded[upcoming] = self._ahead.submit(self._decode, self.store.shard_rows(upcoming))
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
        return [rows[row.key] for row in planned], tar

    def _batches(self, rows: Sequence[PlanRow]) -> Iterator[Sequence[PlanRow]]:
        size = getattr(self.captioner, "batch", 0) or max(1, len(rows))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def _decode(self, rows: Sequence[PlanRow]) -> Decoded:
        root = Path(self.spec.root) if self.spec.root else None
        if rows and self.home.exists(tar_name(rows[0].shard)):
            root = None
        return decode(self.store, rows, root)

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

    def _write_tar(self, shard: int, rows: Sequence[PlanRow]) -> tuple[int, str]:
        """Make the shard's tar unless a whole one is there; its size and SHA-256."""
        name = tar_name(shard)
        members = tar_members(rows, self.store.header.modalities)
        size = tar_size(members)
        if self.home.exists(name) and self.home.size(name) == size:
            digest = self._intact(name, rows)
            if digest:
                return size, digest
        if self.spec.root is None:
            raise StoreError(f"{self.store.name}/{name}: missing or damaged; give --root so that it can be made again")
        root = Path(self.spec.root)
        with self.home.writer(name) as file:
            tar = TarWriter(file)
            for row, first, second in zip(rows, members[::2], members[1::2], strict=True):
                for member, content in zip((first, second), pair_bytes(row, root), strict=True):
                    tar.add(member, content)
            digest = tar.finish()
        return size, digest

    def _intact(self, name: str, rows: Sequence[PlanRow]) -> str | None:
        """The tar's SHA-256 if every image in it is the planned one, else None."""
        from pipeline.verify import tar_problems

        problems, digest = tar_problems(self.home, name, rows, self.store.header.modalities)
        return None if problems else digest

    def _commit(self, shard: int, rows: Sequence[Mapping[str, Any]], tar: tuple[int, str]) -> None:
        import pyarrow as pa

        name, marker = rows_name(self.spec.prior, shard), marker_name(self.spec.prior, shard)
        content = table_bytes(pa.Table.from_pylist(list(rows), schema=row_schema(self.embedder.width)))
        self.home.remove(marker)  # a marker never stands beside rows it does not describe
        write(self.home, name, content)
        files = {name: (len(content), hashlib.sha256(content).hexdigest()), tar_name(shard): tar}
        write(self.home, marker, make_marker(shard, rows, self.task.events, files))
