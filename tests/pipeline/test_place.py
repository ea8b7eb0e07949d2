"""Where a store lies: what a URL names, and what it does not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import InputError
from pipeline.place import LocalPlace, place
from pipeline.processes import this_host
from pipeline.store import Store
from pipeline.verify import verify
from stores import caption, contents


@pytest.mark.parametrize("name", ["plain", "run#2", "is it?", "a b", "50%25", "ä"])
def test_a_file_url_names_the_folder_it_says(tmp_path: Path, name: str) -> None:
    found = place(f"file://{tmp_path}/{name.replace(' ', '%20')}")
    assert isinstance(found, LocalPlace)
    assert found.root == tmp_path / name.replace("%25", "%")
    assert place(f"file://localhost{tmp_path}/x").root == tmp_path / "x"


@pytest.mark.parametrize(
    "url", ["file://stores/msrs", "file://./stores", "file://~/stores", "file://", "file:stores/x"]
)
def test_a_file_url_that_names_no_folder_of_this_machine_is_refused(url: str) -> None:
    """``file://stores/msrs`` is the folder /msrs of a machine called "stores", which nobody means."""
    with pytest.raises(InputError, match="three slashes"):
        place(url)


def test_a_store_at_a_file_url_is_the_store_at_the_path(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    caption(f"file://{tmp_path}/one", folders)
    caption(tmp_path / "two", folders)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert verify(Store.open(f"file://{tmp_path}/two")).problems == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_that_knows_no_hard_links_holds_a_store_too(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As exFAT, the usual format of disks that are carried about."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    folders = draw_pairs(6)
    caption(tmp_path / "linked", folders, shard_size=2)
    monkeypatch.setattr(os, "link", refuse)
    caption(tmp_path / "carried", folders, shard_size=2)
    assert contents(tmp_path / "carried") == contents(tmp_path / "linked")
    assert verify(Store.open(tmp_path / "carried")).problems == []
    home = LocalPlace(tmp_path)
    assert home.create("logs/one", b"mine")
    assert not home.create("logs/one", b"another's")
    assert home.read("logs/one") == b"mine"
    assert list((tmp_path / "logs/unfinished").iterdir()) == []


def test_half_written_files_of_dead_processes_and_of_others_a_day_ago_are_swept(tmp_path: Path) -> None:
    home = LocalPlace(tmp_path)
    unfinished = tmp_path / "logs/unfinished"
    with home.writer("mine"):
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        (unfinished / f"{this_host()}.{dead.pid}.abcd").touch()
        (unfinished / "elsewhere.1.abcd").touch()
        (unfinished / "elsewhere.2.abcd").touch()
        os.utime(unfinished / "elsewhere.2.abcd", (0, time.time() - 90_000))
        home.sweep()
        left = {path.name.rsplit(".", 1)[0] for path in unfinished.iterdir()}
        assert left == {f"{this_host()}.{os.getpid()}", "elsewhere.1"}
