"""Folders: three stages at once, formats and depths, a log that survives, and failures that stop nothing."""

from __future__ import annotations

import csv
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusion import folders
from fusion.alignment import Fit, Fitted
from fusion.folders import LOG, Entry, FolderOptions, fuse_folders, read_log
from fusion.fused_image import Output
from fusion.inference import Fuser, fuse_for
from pipeline.errors import InputError
from pipeline.images import Picture, read_image
from six_pairs import SHAPE, draw_pairs, run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return draw_pairs(tmp_path)


def test_decoding_fusing_and_encoding_overlap(fuser: Fuser, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("vi", "ir"):
        for index in range(40):
            (home / kind / f"n{index}.png").symlink_to(home / kind / "a.png")
    spent = {"decode": 0.0, "fuse": 0.0, "encode": 0.0}

    def rest(stage: str) -> None:
        started = time.perf_counter()
        time.sleep(0.03)
        spent[stage] += time.perf_counter() - started

    picture = Picture(pixels=np.zeros(SHAPE, dtype=np.uint8))
    monkeypatch.setattr(folders, "read_checked", lambda *_: rest("decode") or Fitted(visible=picture, infrared=picture))
    monkeypatch.setattr(folders, "fuse_for", lambda *_: rest("fuse"))
    monkeypatch.setattr(folders, "save_fused", lambda *_: rest("encode"))
    started = time.perf_counter()
    run(fuser, home, jobs=1)
    whole = time.perf_counter() - started
    assert max(spent.values()) > 0.6 * whole, "one after the other they would take a third each"


def test_pictures_are_fused_at_once_each_by_its_share_of_the_threads(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        fuser = Fuser.from_pretrained("nano", device="cpu")
        assert fuser.at_once == 2
        alone = [fuse_for(fuser, *pair(home, stem), Output()) for stem in "abcdef"]
        meeting = threading.Barrier(2, timeout=20)  # breaks unless two come at the same time
        threads = set()

        def fuse(*given: Any) -> Any:
            meeting.wait()
            threads.add(torch.get_num_threads())
            return fuse_for(*given)

        monkeypatch.setattr(folders, "fuse_for", fuse)
        entries = run(fuser, home)
        assert [(entry.stem, entry.status) for entry in entries] == [(stem, "ok") for stem in "abcdef"]
        assert threads == {2} and torch.get_num_threads() == 4
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 4, "threads that start later have all again"
        for stem, expected in zip("abcdef", alone, strict=True):
            written = np.asarray(Image.open(home / "out" / f"{stem}.png"))
            assert np.abs(written.astype(int) - expected).max() <= 1
    finally:
        torch.set_num_threads(before)


def pair(home: Path, stem: str) -> list[Picture]:
    return [read_image(home / kind / f"{stem}.png") for kind in ("vi", "ir")]


@pytest.mark.parametrize(("suffix", "kind", "near"), [
    (".png", "PNG", 0), (".tiff", "TIFF", 0), (".webp", "WEBP", 0), (".jpg", "JPEG", 2.5)
])  # fmt: skip
def test_every_format_holds_what_was_fused(fuser: Fuser, home: Path, suffix: str, kind: str, near: float) -> None:
    run(fuser, home, suffix=suffix)
    for stem in "af":
        pair = (np.asarray(Image.open(home / folder / f"{stem}.png")) for folder in ("vi", "ir"))
        written = Image.open(home / "out" / f"{stem}{suffix}")
        assert written.format == kind
        assert np.abs(np.asarray(written).astype(int) - fuser(*pair)).mean() <= near


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colour_is_read_back_by_another_decoder(fuser: Fuser, home: Path, suffix: str) -> None:
    av = pytest.importorskip("av", reason="the independent decoder")
    run(fuser, home, suffix=suffix, output=Output(sixteen_bit=True))
    with av.open(str(home / "out" / f"c{suffix}")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name.startswith("rgb48")
        decoded = frame.to_ndarray(format="rgb48le") if frame.format.name == "rgb48le" else frame.to_ndarray()
    visible, infrared = (np.asarray(Image.open(home / folder / "c.png")) / np.float32(255) for folder in ("vi", "ir"))
    expected = np.rint(fuser(visible, infrared) * 65535)
    assert np.abs(decoded.astype(float) - expected).max() <= 1
    assert len(np.unique(decoded)) > 256
    with Image.open(home / "out" / f"c{suffix}") as image:
        assert image.size == SHAPE[::-1]


def test_a_run_that_is_broken_off_keeps_what_it_logged(fuser: Fuser, home: Path) -> None:
    def stop(entry: Entry) -> None:
        if entry.stem == "c":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fuse_folders(fuser, home / "vi", home / "ir", home / "out", FolderOptions(jobs=1), stop)
    log = home / "out" / LOG
    assert {"a", "b", "c"} <= set(read_log(log))
    log.write_text(log.read_text() + "d,ok,d.p")  # as a killed process would leave it
    before = {stem: (home / "out" / f"{stem}.png").stat().st_mtime_ns for stem in "abc"}
    (home / "out" / "b.png").write_bytes(b"touched since")
    assert [entry.status for entry in run(fuser, home)] == ["ok"] * 6
    after = {stem: (home / "out" / f"{stem}.png").stat().st_mtime_ns for stem in "abc"}
    assert before["a"] == after["a"] and before["c"] == after["c"] and before["b"] != after["b"]
    assert set(read_log(log)) == set("abcdef")


def test_a_file_of_the_right_name_alone_is_not_trusted(fuser: Fuser, home: Path) -> None:
    run(fuser, home)
    made = (home / "out" / "a.png").read_bytes()
    (home / "out" / LOG).unlink()
    (home / "out" / "a.png").write_bytes((home / "out" / "b.png").read_bytes())
    run(fuser, home)
    assert (home / "out" / "a.png").read_bytes() == made
    grey = run(fuser, home, output=Output(grey=True))
    assert grey[0].status == "ok" and Image.open(home / "out" / "a.png").mode == "L", "other options, other results"


def test_another_tile_fit_or_output_fuses_anew(fuser: Fuser, home: Path) -> None:
    tiled = Fuser.from_pretrained("nano", device="cpu", tile=256)
    made, before = home / "out" / "a.png", None
    for other, options in (
        (fuser, {}),
        (tiled, {}),
        (fuser, {"asked": Fit(align="none")}),
        (fuser, {"asked": Fit(resize=True)}),
        (fuser, {"asked": Fit(resize=True), "output": Output(grey=True)}),
    ):
        run(other, home, **options)
        new = made.stat().st_ino
        assert new != before, (other.tile, options)
        run(other, home, **options)
        before = made.stat().st_ino
        assert before == new, "what the same settings made is kept"


def test_a_transform_of_an_earlier_run_goes_where_nothing_was_moved_now(fuser: Fuser, home: Path) -> None:
    (home / "out").mkdir()
    (home / "out" / "a.png.transform.json").write_text("{}")
    run(fuser, home)
    assert not list((home / "out").glob("*.json"))


def test_a_pair_is_in_the_log_as_soon_as_it_is_told_of(fuser: Fuser, home: Path) -> None:
    logged: list[set[str]] = []
    log = home / "out" / LOG
    fuse_folders(fuser, home / "vi", home / "ir", home / "out", on_pair=lambda entry: logged.append(set(read_log(log))))
    assert logged == [set("abcdef"[:count]) for count in range(1, 7)]


def test_what_cannot_be_a_folder_run_is_refused_at_once(fuser: Fuser, home: Path) -> None:
    with pytest.raises(InputError, match="holds no 16-bit"):
        FolderOptions(suffix=".jpg", output=Output(sixteen_bit=True))
    with pytest.raises(InputError, match="use one of"):
        FolderOptions(suffix=".gif")
    with pytest.raises(InputError, match="at least 1"):
        FolderOptions(jobs=0)
    with pytest.raises(InputError, match="holds the images"):
        fuse_folders(fuser, home / "vi", home / "ir", home / "vi")


@pytest.mark.parametrize("content", ["place,seen\nbridge,yes\n", "stem", b"\x89PNG\r\n\xff"])
def test_a_table_that_is_no_log_is_not_written_over(fuser: Fuser, home: Path, content: str | bytes) -> None:
    (home / "out").mkdir()
    before = content if isinstance(content, bytes) else content.encode()
    (home / "out" / LOG).write_bytes(before)
    with pytest.raises(InputError, match=r"fused\.csv: not the log"):
        run(fuser, home)
    assert [path.name for path in (home / "out").iterdir()] == [LOG]
    assert (home / "out" / LOG).read_bytes() == before
    (home / "out" / LOG).write_bytes(b"")
    assert {entry.status for entry in run(fuser, home)} == {"ok"}, "an empty one holds nothing that could be lost"


def test_a_log_with_a_quote_that_is_never_closed_is_one_sentence(fuser: Fuser, home: Path) -> None:
    run(fuser, home)
    log = home / "out" / LOG
    log.write_text(log.read_text() + 'g,"' + "ok," * csv.field_size_limit())
    with pytest.raises(InputError, match=r"fused\.csv: not the log"):
        run(fuser, home)


def test_an_output_folder_among_the_images_is_refused(fuser: Fuser, home: Path) -> None:
    """The run itself would end well, but the next could not read the images any more."""
    for kind in ("vi", "ir"):
        with pytest.raises(InputError, match="inside the folder of the images"):
            fuse_folders(fuser, home / "vi", home / "ir", home / kind / "deep" / "out")
        assert not (home / kind / "deep").exists()


def test_a_name_that_is_not_utf8_is_fused_and_logged(fuser: Fuser, home: Path) -> None:
    """As old archives unpack; the log holds the same bytes, and a second run knows the pair by them."""
    name = b"caf\xe9.png"
    try:
        for kind in ("vi", "ir"):
            (home / kind / "a.png").rename(os.fsdecode(os.fsencode(home / kind) + b"/" + name))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert {entry.status for entry in run(fuser, home)} == {"ok"}
    assert b"caf\xe9," in (home / "out" / LOG).read_bytes()
    made = os.fsdecode(os.fsencode(home / "out") + b"/" + name)
    before = Path(made).stat().st_mtime_ns
    assert len(run(fuser, home)) == 6 and Path(made).stat().st_mtime_ns == before
