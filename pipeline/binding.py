"""A prior's fingerprint: written when the prior is begun; afterwards every other is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.captioners import Captioner
from pipeline.captioners.imported import ImportedCaptioner
from pipeline.errors import FingerprintMismatch, StoreError
from pipeline.fingerprints import first_difference
from pipeline.place import Place, write
from pipeline.plan import PlanRow
from pipeline.shards import OK
from pipeline.store import Store


def bind(
    store: Store, home: Place, prior: str, now: Mapping[str, Any], captioner: Captioner | None, *, retry_failed: bool
) -> None:
    """Write the fingerprint on first use; afterwards raise FingerprintMismatch for any other.

    Imported captions may have other files when failed pairs are retried, if those of the captioned pairs say what they
    said: the fingerprint is then that of the folder as it is now.
    """
    name = f"priors/{prior}/fingerprint.json"
    content = json.dumps(now, indent=1, ensure_ascii=False).encode() + b"\n"
    if not home.exists(name) and home.create(name, content):
        return
    before = store.fingerprint(prior)
    difference = first_difference(before, now)
    if not difference:
        return
    other = "or give the new one a name of its own with --prior NAME"
    if not store.finished(prior):
        other += f", or, nothing being captioned yet, remove {home}/priors/{prior}"
    begun = f"{store.name}: prior {prior!r} was begun with {difference}; "
    if isinstance(captioner, ImportedCaptioner) and not first_difference(_settings(before), _settings(now)):
        if not retry_failed:
            raise FingerprintMismatch(
                f"{begun}restore the files, take new ones for failed pairs by --retry-failed, {other}"
            )
        if changed := _first_changed(store, prior, captioner):
            raise FingerprintMismatch(
                f"{store.name}: prior {prior!r} holds another caption of {changed.key} than its file has now; --retry-failed "
                f"takes new files for failed pairs alone: restore that one, {other}"
            )
        write(home, name, content)
        return
    raise FingerprintMismatch(f"{begun}run it with the settings it was begun with, {other}")


def _settings(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint but for the files of imported captions."""
    captioner = {key: value for key, value in fingerprint["captioner"].items() if key not in ("files", "content")}
    return {**fingerprint, "captioner": captioner}


def _first_changed(store: Store, prior: str, captioner: ImportedCaptioner) -> PlanRow | None:
    """The first captioned pair whose file is gone or says something else."""
    for shard in range(store.header.shards):
        try:
            rows = store.shard_table(prior, shard, ["status", "raw_response"]).to_pylist()
        except StoreError:  # not made yet, or damaged and made again
            continue
        for planned, row in zip(store.shard_rows(shard), rows, strict=True):
            if row["status"] == OK and not captioner.still_says(planned, row["raw_response"]):
                return planned
    return None
