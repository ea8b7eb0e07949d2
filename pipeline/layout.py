"""The names inside a store, the Arrow schemas of its tables, and its schema version. All of it is a contract."""

from __future__ import annotations

import re

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.tasks import WEIGHT_NAMES

SCHEMA_VERSION = 1
HEADER, PLAN, CARD = "store.json", "plan.parquet", "README.md"
FINGERPRINT = "fingerprint.json"
DEFAULT_PRIOR = "text"
PRIOR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")

PLAN_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("pair_id", pa.string()),
        ("shard", pa.int32()),
        ("split", pa.string()),
        ("first", pa.string()),
        ("second", pa.string()),
        ("first_sha256", pa.string()),
        ("second_sha256", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
    ]
)
EVENT = pa.struct(
    [("modality", pa.string()), ("type", pa.string()), ("severity", pa.string()), ("description", pa.string())]
)


def prior_schema(width: int) -> pa.Schema:
    """The columns of a text prior with embeddings of ``width`` numbers."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("pair_id", pa.string()),
            ("status", pa.string()),
            ("error_kind", pa.string()),
            ("error", pa.string()),
            ("caption", pa.string()),
            ("scene", pa.string()),
            ("events", pa.list_(EVENT)),
            ("clip_text", pa.string()),
            ("tokens", pa.int32()),
            ("dropped_events", pa.list_(pa.string())),
            ("text_embedding", pa.list_(pa.float32(), width)),
            ("loss_weights", pa.struct([(name, pa.float32()) for name in WEIGHT_NAMES])),
            ("raw_response", pa.string()),
            ("finish_reason", pa.string()),
        ],
        metadata={"fusioncli.schema_version": str(SCHEMA_VERSION)},
    )


def images_path(shard: int) -> str:
    """The tar of a shard's images."""
    return f"images/shard-{shard:06d}.tar"


def rows_path(prior: str, shard: int) -> str:
    """The Parquet file of a shard's rows in a prior."""
    return f"priors/{prior}/shard-{shard:06d}.parquet"


def marker_path(prior: str, shard: int) -> str:
    """The done-marker of a shard in a prior, written last."""
    return f"priors/{prior}/shard-{shard:06d}.json"


def check_prior_name(name: str) -> str:
    """``name`` itself. Raises InputError for anything that is not a short plain word."""
    if not PRIOR_NAME.fullmatch(name):
        raise InputError(f"--prior {name!r}: use lower-case letters, digits, - and _, at most 40")
    return name
