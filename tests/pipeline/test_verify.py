"""Verifying a store sees every kind of damage."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.shards import BLOCK, tar_members
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption


@pytest.mark.parametrize("victim", ["images/shard-000000.tar", "priors/text/shard-000001.parquet", "plan.parquet"])
def test_verify_sees_one_flipped_bit(tmp_path: Path, draw_pairs: Any, victim: str) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=4)
    path = tmp_path / "s" / victim
    for position in (700, path.stat().st_size // 2):
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)
        try:
            problems = verify(Store.open(tmp_path / "s")).problems
        except StoreError as error:
            problems = [str(error)]
        assert any(Path(victim).name in problem for problem in problems)
        content[position] ^= 1
        path.write_bytes(content)
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_verify_sees_what_is_missing_and_what_is_too_much(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=4)
    (tmp_path / "s/priors/text/shard-000001.json").unlink()
    (tmp_path / "s/images/shard-000009.tar").write_bytes(b"x")
    problems = verify(Store.open(tmp_path / "s")).problems
    assert any("shard-000001.json: missing" in problem for problem in problems)
    assert any("shard-000009.tar: not part" in problem for problem in problems)
    with pytest.raises(StoreError, match="unfinished: 1 of 2"):
        Store.open(tmp_path / "s").rows()


@pytest.mark.parametrize("part", ["header", "zeros of a header", "content", "padding", "end", "last byte"])
def test_one_changed_byte_of_a_tar_is_found_and_mended(tmp_path: Path, draw_pairs: Any, part: str) -> None:
    """Found by ``verify``, and by the next run over these images, which makes the tar again."""
    folders = draw_pairs(3)
    caption(tmp_path / "s", folders)
    store, path = Store.open(tmp_path / "s"), tmp_path / "s/images/shard-000000.tar"
    members = tar_members(store.shard_rows(0), store.header.modalities)
    start, end, whole = members[1].offset, members[1].end, path.read_bytes()
    position = {
        "header": start + 1,
        "zeros of a header": start + BLOCK - 1,
        "content": start + BLOCK + 100,
        "padding": end - 1,
        "end": members[-1].end,
        "last byte": len(whole) - 1,
    }[part]
    assert members[1].size % BLOCK, "no padding to change"
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    assert any(path.name in problem for problem in verify(store).problems)
    caption(tmp_path / "s", folders, prior="again")
    assert path.read_bytes() == whole
    assert verify(store).problems == []


def test_the_marker_states_the_tar_by_its_members(tmp_path: Path, draw_pairs: Any) -> None:
    caption(tmp_path / "s", draw_pairs(3))
    path, marker_file = tmp_path / "s/images/shard-000000.tar", tmp_path / "s/priors/text/shard-000000.json"
    digest = hashlib.sha256()
    with tarfile.open(path) as archive:
        for member in archive:
            image = archive.extractfile(member)
            assert image is not None
            digest.update(member.tobuf(tarfile.USTAR_FORMAT) + hashlib.sha256(image.read()).digest())
    marker = json.loads(marker_file.read_text())
    stated = marker["files"][f"images/{path.name}"]
    assert stated == {"bytes": path.stat().st_size, "members_sha256": digest.hexdigest()}

    def verify_with(**said: Any) -> list[str]:
        marker["files"][f"images/{path.name}"] = said
        marker_file.write_text(json.dumps(marker))
        return verify(Store.open(tmp_path / "s")).problems

    assert verify_with(**stated) == []
    for said in (
        {**stated, "members_sha256": "0" * 64},
        {"bytes": stated["bytes"], "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        {**stated, "bytes": stated["bytes"] + 1},
        {"bytes": stated["bytes"]},
        {},
    ):
        assert any("shard-000000.json" in problem for problem in verify_with(**said)), said
