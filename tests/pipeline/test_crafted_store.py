"""A crafted manifest, plan, tar or table cannot write outside the store, execute anything, or ask for unbounded memory."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError, StoreError
from pipeline.place import LocalPlace
from pipeline.plan import PlanRow
from pipeline.plan_file import Plan
from pipeline.shards import read_table
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption


def _forged(row: PlanRow, **changes: Any) -> dict[str, Any]:
    return {**vars(row), **changes}


@pytest.mark.parametrize(
    "change",
    [
        {"key": "../../evil"},
        {"key": "/etc/passwd"},
        {"key": "a\0b"},
        {"key": "x" * 5000},
        {"first": "../../../etc/passwd"},
        {"second": "/etc/passwd"},
        {"first": "a\0.png"},
        {"shard": 7},
        {"pair_id": "0" * 32},
        {"height": -1},
    ],
)
def test_a_crafted_plan_is_refused(tmp_path: Path, draw_pairs: Any, change: dict[str, Any]) -> None:
    from pipeline.plan import plan_schema

    caption(tmp_path / "s", draw_pairs(2))
    store = Store.open(tmp_path / "s")
    rows = [_forged(store.plan()[0], **change), vars(store.plan()[1])]
    plan = tmp_path / "s/plan.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=plan_schema()), plan)
    with pytest.raises(StoreError, match="SHA-256 differs"):
        Store.open(tmp_path / "s").plan()
    header = json.loads((tmp_path / "s/store.json").read_text())
    header["plan_sha256"] = hashlib.sha256(plan.read_bytes()).hexdigest()  # whoever forges one can forge the other
    (tmp_path / "s/store.json").write_text(json.dumps(header))
    forged = Store.open(tmp_path / "s")
    for look in (list, first_row, lambda _: forged.shard_rows(0)):
        with pytest.raises(StoreError, match="plan.parquet: "):
            look(forged.plan())


def first_row(plan: Plan) -> None:
    """The first row alone."""
    plan[0]


def test_links_and_names_cannot_lead_out_of_the_store(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(2)
    outside = tmp_path / "outside"
    outside.mkdir()
    caption(tmp_path / "s", folders)
    shutil.rmtree(tmp_path / "s/priors")
    (tmp_path / "s/priors").symlink_to(outside)
    with pytest.raises(StoreError, match="out of the store"):
        caption(tmp_path / "s", folders)
    assert list(outside.iterdir()) == []
    for name in ("../x", "/x", "a/../../x", "a\0b"):
        with pytest.raises(StoreError, match="refused"), LocalPlace(tmp_path).writer(name):
            pass
    for prior in ("../x", "", "a/b", "x" * 100):
        with pytest.raises(InputError, match="--prior"):
            caption(tmp_path / "t", folders, prior=prior)


def test_a_crafted_tar_gives_an_error_and_no_file(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(2))
    tar = tmp_path / "s/images/shard-000000.tar"
    size = tar.stat().st_size
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("../../evil.sh")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    tar.write_bytes(tar.read_bytes().ljust(size, b"\0")[:size])
    store = Store.open(tmp_path / "s")
    with pytest.raises(StoreError, match="store verify"):
        store.image_bytes(store.plan()[0])
    assert verify(store).problems
    assert not list(tmp_path.rglob("evil*"))


def forge_rows(home: Path, change: dict[str, Any]) -> None:
    """Change the first row of the table, and mend the size and digest that its marker holds."""
    path = home / "priors/text/shard-000000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0] |= change
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    marker = json.loads(path.with_suffix(".json").read_text())
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    marker["files"]["priors/text/shard-000000.parquet"] = {"bytes": len(content), "sha256": digest}
    path.with_suffix(".json").write_text(json.dumps(marker))


@pytest.mark.parametrize(("change", "said"), [
    ({"pair_id": "0" * 32}, "its pair ids are not those of the plan"),
    ({"text_embedding": None}, "is neither a caption nor an error"),
    ({"loss_weights": None}, "is neither a caption nor an error"),
    ({"events": None}, "is neither a caption nor an error"),
    ({"status": "odd"}, "is neither a caption nor an error"),
])  # fmt: skip
def test_a_crafted_row_is_named_though_its_marker_was_mended(
    tmp_path: Path, draw_pairs: Any, change: dict[str, Any], said: str
) -> None:
    caption(tmp_path / "s", draw_pairs(2))
    forge_rows(tmp_path / "s", {})
    assert verify(Store.open(tmp_path / "s")).problems == [], "the mending itself is not seen"
    forge_rows(tmp_path / "s", change)
    (problem,) = verify(Store.open(tmp_path / "s")).problems
    assert said in problem


def test_a_header_that_names_other_rows_is_a_problem(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(2))
    header = json.loads((tmp_path / "s/store.json").read_text())
    header["plan_digest"] = "0" * len(header["plan_digest"])
    (tmp_path / "s/store.json").write_text(json.dumps(header))
    (problem,) = verify(Store.open(tmp_path / "s")).problems
    assert problem == "plan.parquet: its rows are not those that store.json names"


def test_a_crafted_table_is_refused_before_it_is_unpacked(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(2))
    path = tmp_path / "s/priors/text/shard-000000.parquet"
    bomb = pa.table({"key": pa.array(["x" * 1000] * 200_000)})
    pq.write_table(bomb, path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 400_000
    with pytest.raises(StoreError, match="rows where 2 are planned"):
        Store.open(tmp_path / "s").rows()
    with pytest.raises(StoreError, match="claim to hold"):
        read_table(path.read_bytes(), "bomb", rows=200_000)
    path.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(StoreError, match="not a readable Parquet"):
        Store.open(tmp_path / "s").rows()
    pq.write_table(pa.table({"key": ["a", "b"]}), path)
    with pytest.raises(StoreError, match="columns"):
        Store.open(tmp_path / "s").rows()
