"""The files of a shard: the tar of its images, the table of a prior's rows, the done-marker. Reproducible to the byte."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from pipeline.errors import StoreError
from pipeline.plan import PlanRow, image_suffix
from pipeline.tasks import WEIGHT_NAMES

if TYPE_CHECKING:
    import pyarrow

BLOCK = 512
RECORD = 10_240  # tar archives end on a multiple of this
HEADER_REST = b"0" + bytes(100) + b"ustar\x0000" + bytes(247)  # of a header, behind its checksum
REST_SUM = sum(HEADER_REST) + 8 * ord(" ")  # the checksum counts itself as blanks
OK, FAILED = "ok", "failed"
SHARD_VERSION = b"1"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One image in a tar: where its header starts and how long it is."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the padded content."""
        return self.offset + member_size(self.size)


def member_size(size: int) -> int:
    """Bytes that a file of ``size`` bytes takes in a tar: its header and its padded content."""
    return BLOCK + -(-size // BLOCK) * BLOCK


def tar_name(shard: int) -> str:
    """``images/shard-000000.tar``."""
    return f"images/shard-{shard:06d}.tar"


def rows_name(prior: str, shard: int) -> str:
    """``priors/<name>/shard-000000.parquet``."""
    return f"priors/{prior}/shard-{shard:06d}.parquet"


def marker_name(prior: str, shard: int) -> str:
    """``priors/<name>/shard-000000.json``."""
    return f"priors/{prior}/shard-{shard:06d}.json"


def tar_members(rows: Iterable[PlanRow], modalities: tuple[str, str], offset: int = 0) -> list[Member]:
    """The layout of a shard's tar from ``offset`` on, known from the plan alone: two members a pair, in order."""
    members: list[Member] = []
    for row in rows:
        for modality, path, size in (
            (modalities[0], row.first, row.first_bytes),
            (modalities[1], row.second, row.second_bytes),
        ):
            members.append(Member(name=f"{row.key}.{modality}{image_suffix(path)}", offset=offset, size=size))
            offset = members[-1].end
    return members


def tar_size(members: Sequence[Member]) -> int:
    """Size of the whole tar in bytes, with its end blocks."""
    return -(-(members[-1].end + 2 * BLOCK) // RECORD) * RECORD


def check_member(member: Member) -> None:
    """Raises StoreError for a name or a size that does not fit a tar header."""
    if len(member.name) > 100 or not member.name.isascii() or not 0 <= member.size < 8**11:
        raise StoreError(f"{member.name[:120]!r} of {member.size} bytes does not fit a tar header")


def tar_header(member: Member) -> bytes:
    """The 512-byte ustar header (POSIX.1-1988): no owner, no time, mode 0644. Raises StoreError as ``check_member`` does.

    Written here because Python's own takes as long as hashing the image.
    """
    check_member(member)
    name = member.name.encode("ascii")
    before = name.ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + b"%011o\0" % member.size + b"00000000000\0"
    return before + b"%06o\0 " % (sum(before) + REST_SUM) + HEADER_REST


class MembersDigest:
    """SHA-256 over every member's header and the SHA-256 of its content: all that a tar holds but zeros.

    Whoever packs or verifies has hashed the contents by then; hashing them once more as a whole proves nothing new.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, header: bytes, sha256: str) -> None:
        """The next member; ``sha256`` of its content, in hex."""
        self._hash.update(header + bytes.fromhex(sha256))

    def hexdigest(self) -> str:
        """The digest of the members so far."""
        return self._hash.hexdigest()


class TarWriter:
    """Writes members one after the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.written = 0
        self.digest = MembersDigest()

    def add(self, member: Member, content: bytes, sha256: str) -> None:
        """Append one image, whose SHA-256 was found to be this; members come in the order of their offsets."""
        if self.written != member.offset or len(content) != member.size:
            raise StoreError(f"{member.name}: {len(content)} bytes where the plan says {member.size}")
        header = tar_header(member)
        for part in (header, content, bytes(-len(content) % BLOCK)):  # joined they would be copied
            self.file.write(part)
        self.written = member.end
        self.digest.add(header, sha256)

    def finish(self) -> str:
        """Write the end of the archive; the digest of its members."""
        self.file.write(bytes(2 * BLOCK))
        self.file.write(bytes(-(self.written + 2 * BLOCK) % RECORD))
        return self.digest.hexdigest()


def member_content(block: bytes, member: Member, start: int, where: str) -> bytes:
    """The image inside ``block``, which holds the tar from byte ``start``. Raises StoreError if another lies there."""
    begin = member.offset - start
    if block[begin : begin + BLOCK] != tar_header(member):
        raise StoreError(f"{where}: expected {member.name} at byte {member.offset}; run `fusioncli store verify`")
    content = block[begin + BLOCK : begin + BLOCK + member.size]
    if len(content) != member.size:
        raise StoreError(f"{where}: cut short in {member.name}; run `fusioncli store verify`")
    return content


def row_schema(width: int) -> pyarrow.Schema:
    """Column types of a text prior; ``text_embedding`` has ``width`` float32 values."""
    import pyarrow as pa

    text = pa.string()
    event = pa.struct([(name, text) for name in ("modality", "type", "severity", "description")])
    weights = pa.struct([(name, pa.float64()) for name in WEIGHT_NAMES])
    return pa.schema(
        [
            ("key", text),
            ("pair_id", text),
            ("status", text),
            ("error_kind", text),
            ("error", text),
            ("caption", text),
            ("scene", text),
            ("events", pa.list_(event)),
            ("clip_text", text),
            ("tokens", pa.int64()),
            ("dropped_events", pa.int64()),
            ("text_embedding", pa.list_(pa.float32(), width)),
            ("loss_weights", weights),
            ("raw_response", text),
            ("finish_reason", text),
            ("response_tokens", pa.int64()),
        ],
        metadata={b"fusioncli.schema_version": SHARD_VERSION},
    )


PARQUET = {  # every writer setting is fixed, so that the bytes are
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": True,
    "data_page_version": "1.0",
    "write_page_checksum": True,
    "store_schema": True,
}


def table_bytes(table: Any) -> bytes:
    """A table as Parquet, one row group, page checksums."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=max(1, table.num_rows), **PARQUET)
    return buffer.getvalue()


def read_table(content: bytes, where: str, *, rows: int | None = None, schema: Any = None, columns: Any = None) -> Any:
    """A Parquet file's table, its size and types checked first. Raises StoreError for anything unexpected."""
    return open_table(io.BytesIO(content), where, rows=rows, schema=schema).read(columns=columns)


def open_table(file: IO[bytes], where: str, *, rows: int | None = None, schema: Any = None) -> CheckedTable:
    """Look at a Parquet file's footer before any page is decoded, so that a small file cannot ask for unbounded memory.

    Raises StoreError when size, rows or types are not the expected ones.
    """
    import pyarrow.parquet as pq

    with _readable(where):
        size = file.seek(0, io.SEEK_END)
        # Arrow's own threads would go on reading after an error, and abort a Python that ends meanwhile.
        parquet = pq.ParquetFile(
            file, pre_buffer=False, page_checksum_verification=True, arrow_extensions_enabled=False
        )
        metadata = parquet.metadata
        unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if rows is not None and metadata.num_rows != rows:
            raise StoreError(f"{where}: {metadata.num_rows} rows where {rows} are planned")
        if unpacked > 200 * size + 2**24:
            raise StoreError(f"{where}: {size} bytes claim to hold {unpacked}: refused")
        if schema is not None and not parquet.schema_arrow.equals(schema):
            raise StoreError(f"{where}: its columns are not those of this schema version")
        return CheckedTable(parquet, where)


class CheckedTable:
    """An open Parquet file whose footer was found good."""

    def __init__(self, parquet: Any, where: str) -> None:
        self.parquet, self.where = parquet, where
        self.groups = int(parquet.metadata.num_row_groups)

    def read(self, group: int | None = None, columns: Any = None) -> Any:
        """One row group, or all of them. Raises StoreError for a damaged page."""
        with _readable(self.where):
            if group is None:
                return self.parquet.read(columns=columns, use_threads=False)
            return self.parquet.read_row_group(group, columns=columns, use_threads=False)


@contextmanager
def _readable(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise StoreError(f"{where}: not a readable Parquet file ({reason})") from error


def make_marker(
    shard: int, rows: Sequence[Mapping[str, Any]], known: Iterable[str], files: Mapping[str, Mapping[str, object]]
) -> bytes:
    """The done-marker: counts, failures by kind, unknown labels, and size and digest of every file of the shard."""
    labels = set(known)
    kinds = Counter(str(row["error_kind"]) for row in rows if row["status"] == FAILED)
    unknown = Counter(event["type"] for row in rows for event in row["events"] or () if event["type"] not in labels)
    marker = {
        "shard": shard,
        "rows": len(rows),
        "ok": sum(row["status"] == OK for row in rows),
        "failed": sum(row["status"] == FAILED for row in rows),
        "errors": dict(sorted(kinds.items())),
        "unknown_labels": dict(sorted(unknown.items())),
        "dropped_events": sum(row["dropped_events"] or 0 for row in rows),
        "files": {name: dict(stated) for name, stated in sorted(files.items())},
    }
    return json.dumps(marker, indent=1).encode() + b"\n"
