"""A folder of pairs of which one cannot be fused: the others are, and the one is named."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from command_line import Run
from fusion import folders
from fusion.alignment import Fit
from fusion.folders import LOG, check_entries, fuse_folders, read_log
from fusion.fused_image import save_fused
from fusion.inference import Fuser
from pipeline.errors import TooManyFailures
from six_pairs import draw_pairs, run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return draw_pairs(tmp_path)


def test_a_full_disk_fails_a_pair_and_not_the_rest(fuser: Fuser, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(out: Path, *rest: Any) -> None:
        if out.stem in "be":
            raise OSError(errno.ENOSPC, "No space left on device")
        save_fused(out, *rest)

    monkeypatch.setattr(folders, "save_fused", full)
    (home / "ir" / "d.png").write_bytes(b"not an image")
    entries = run(fuser, home)
    assert [entry.stem for entry in entries if entry.status == "failed"] == ["b", "d", "e"]
    assert sorted(path.name for path in (home / "out").glob("*.png")) == ["a.png", "c.png", "f.png"]
    with pytest.raises(TooManyFailures) as listed:
        check_entries(entries, home / "out")
    assert "3 of 6 pairs failed" in str(listed.value)
    assert all(f"\n  {stem}: " in str(listed.value) for stem in "bde") and "No space left" in str(listed.value)
    monkeypatch.undo()
    assert [entry.status for entry in run(fuser, home)].count("ok") == 5, "the next run makes what is missing"


def test_a_result_of_an_earlier_run_is_not_taken_for_one_of_this(fuser: Fuser, home: Path) -> None:
    run(fuser, home)
    (home / "ir" / "d.png").write_bytes(b"not an image")
    failed = [entry for entry in run(fuser, home) if entry.status == "failed"]
    assert [entry.stem for entry in failed] == ["d"]
    assert failed[0].error.endswith("(the d.png there is not of this run)") and (home / "out" / "d.png").exists()


def test_a_pair_too_large_for_memory_fails_alone(fuser: Fuser, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = fuser.network

    def small(visible: Tensor, *rest: Tensor) -> Tensor:
        if visible.shape[-1] > 1000:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes.")
        return network(visible, *rest)

    monkeypatch.setattr(fuser, "network", small)
    for folder in ("vi", "ir"):
        Image.new("L", (1200, 64)).save(home / folder / "c.png")
    entries = run(fuser, home)
    assert [entry.status for entry in entries] == ["ok", "ok", "failed", "ok", "ok", "ok"]
    assert "1200 x 64 pixels" in entries[2].error and "--tile" in entries[2].error


def test_pairs_of_unlike_size_fail_alone_and_are_scaled_when_asked(fuser: Fuser, home: Path) -> None:
    Image.new("L", (16, 12)).save(home / "ir" / "b.png")
    entries = run(fuser, home)
    assert [entry.status for entry in entries] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert "--resize" in entries[1].error
    assert [entry.status for entry in run(fuser, home, asked=Fit(resize=True))] == ["ok"] * 6


def test_the_command_lists_failures_last(fusioncli: Run, home: Path) -> None:
    (home / "vi" / "e.png").write_bytes(b"")
    done = fusioncli("fuse", "vi", "ir", "--out", "out", "--weights", "nano", "--jobs", "3", "--format", "webp")
    assert done.returncode == 3
    assert done.stderr.rstrip().splitlines()[-1].strip().startswith("e: ")
    assert len(list((home / "out").glob("*.webp"))) == 5


def test_a_pair_that_its_format_cannot_hold_stops_no_other(fuser: Fuser, home: Path) -> None:
    for kind, shape in (("vi", (8, 17000, 3)), ("ir", (8, 17000))):
        Image.fromarray(np.full(shape, 90, dtype=np.uint8)).save(home / kind / "b.png")
    entries = run(fuser, home, suffix=".webp", asked=Fit(align="none"))
    assert [entry.status for entry in entries] == ["ok", "failed", "ok", "ok", "ok", "ok"]
    assert "b.webp: WEBP holds 16383 pixels a side" in entries[1].error
    assert set(read_log(home / "out" / LOG)) == set("abcdef")


def test_a_file_that_goes_while_its_folder_is_fused_is_named_in_words(fuser: Fuser, home: Path) -> None:
    for kind in ("vi", "ir"):
        for index in range(10, 50):
            (home / kind / f"n{index}.png").symlink_to(home / kind / "a.png")
    last = home / "ir" / "n49.png"
    entries = fuse_folders(
        fuser, home / "vi", home / "ir", home / "out", on_pair=lambda entry: last.unlink(missing_ok=True)
    )
    (failed,) = (entry for entry in entries if entry.status == "failed")
    assert failed.error == f"{last}: no such file"
