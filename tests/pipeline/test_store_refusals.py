"""A store is not gone on with under other settings, another task or other data; the message names the field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command_line import Run
from pipeline.errors import FingerprintMismatch, InputError
from stores import caption, contents


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"do_model": "other"}, "captioner.model 'scripted', now 'other'"),
        ({"do_revision": "abc"}, "captioner.revision None, now 'abc'"),
        ({"do_max_pixels": 5}, "captioner.max_pixels 1003520, now 5"),
        ({"captioner": "measured"}, "captioner.name 'scripted', now 'measured'"),
        ({"embedder_settings": {"width": "64"}}, "embedder.width 512, now 64"),
        ({"shard_size": 5}, "shard_size 4, now 5"),
        ({"limit": 3}, "limit None, now 3"),
    ],
)
def test_other_settings_are_refused_by_name(
    tmp_path: Path, draw_pairs: Any, changed: dict[str, Any], field: str
) -> None:
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=4)
    before = contents(tmp_path / "s")
    with pytest.raises(FingerprintMismatch, match=field):
        caption(tmp_path / "s", folders, **changed)
    assert contents(tmp_path / "s") == before


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("the scene is too dark", "the scene is far too dark", "prompt"),
        ("  low_light:", "  lowlight:", "prompt|schema|task.vocabulary"),
        ("intensity: 48, consistency: 20", "intensity: 47, consistency: 20", "task.weights"),
    ],
)
def test_a_changed_task_is_refused(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch, old: str, new: str, field: str
) -> None:
    import pipeline.job
    from pipeline.task_file import parse_task

    folders = draw_pairs(4)
    caption(tmp_path / "s", folders)
    text = (Path(__file__).parents[2] / "manifests/tasks/ivf.yaml").read_text()
    assert old in text
    changed = parse_task(text.replace(old, new).encode(), source="ivf")
    monkeypatch.setattr(pipeline.job, "load_task", lambda _: changed)
    with pytest.raises(FingerprintMismatch, match=field):
        caption(tmp_path / "s", folders)


def test_changed_data_is_refused(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(6)
    caption(tmp_path / "s", folders, shard_size=2)
    (folders[0] / "p0003.png").write_bytes((folders[0] / "p0004.png").read_bytes())
    with pytest.raises(FingerprintMismatch, match=r"p0003\.png.*(bytes were|sha256 was)"):
        caption(tmp_path / "s", folders)
    (folders[0] / "p0003.png").unlink()
    (folders[1] / "p0003.png").unlink()
    with pytest.raises(FingerprintMismatch, match=r"6\}, now"):
        caption(tmp_path / "s", folders)


def test_a_file_of_another_size_is_refused_however_old_it_is(tmp_path: Path, draw_pairs: Any) -> None:
    """As a copy that keeps its times; the shard it belongs to is done, so nobody reads it again."""
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    path = folders[1] / "p0001.png"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, (0, 0))
    with pytest.raises(FingerprintMismatch, match=rf"p0001\.png: bytes were {size}, now {size + 1}"):
        caption(tmp_path / "s", folders)


def test_a_folder_of_the_same_names_and_sizes_is_not_taken_for_the_planned_one(tmp_path: Path, draw_pairs: Any) -> None:
    """Uncompressed frames of two cameras: the names and sizes agree, and every file is older than the plan."""
    here, there = (draw_pairs(3, folder=name) for name in ("here", "there"))
    for kind in (0, 1):
        for path in here[kind].iterdir():
            Image.open(path).save(path.with_suffix(".bmp"))
            Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(there[kind] / f"{path.stem}.bmp")
            path.unlink()
            (there[kind] / path.name).unlink()
    for path in (*here[0].parent.rglob("*.bmp"), *there[0].parent.rglob("*.bmp")):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    caption(tmp_path / "s", here)
    let_files_age(tmp_path / "s")
    with pytest.raises(FingerprintMismatch, match=r"there/vi/p0000\.bmp: sha256 was"):
        caption(tmp_path / "s", there)
    here[0].parent.rename(tmp_path / "elsewhere")
    there[0].parent.rename(here[0].parent)
    with pytest.raises(FingerprintMismatch, match=r"here/vi/p0000\.bmp: sha256 was"):
        caption(tmp_path / "s", here)


def let_files_age(store: Path) -> None:
    """As if the files had lain there for a while before they were hashed."""
    file = store / "logs/planned.json"
    log = json.loads(file.read_text())
    file.write_text(json.dumps({**log, "time": log["time"] + 10}))


def test_a_file_whose_content_changed_is_found_though_its_time_was_set_back(tmp_path: Path, draw_pairs: Any) -> None:
    """As by ``cp -p`` or ``rsync -t``; the entry of the file changed nevertheless."""
    folders = draw_pairs(2)
    for path in (folders[0] / "p0000.png", folders[0] / "p0001.png"):
        path.write_bytes(path.read_bytes().ljust(4000, b"\0"))
    caption(tmp_path / "s", folders)
    (folders[0] / "p0001.png").write_bytes((folders[0] / "p0000.png").read_bytes())
    os.utime(folders[0] / "p0001.png", (1_000_000_000, 1_000_000_000))
    with pytest.raises(FingerprintMismatch, match=r"p0001\.png: sha256 was"):
        caption(tmp_path / "s", folders)


def test_data_that_moved_are_hashed_once_more_and_then_known(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    moved = tmp_path / "moved"
    folders[0].parent.rename(moved)
    read: list[str] = []
    plain = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    caption(tmp_path / "s", (moved / "vi", moved / "ir"))
    assert sum(name.endswith(".png") for name in read) == 4
    read.clear()
    let_files_age(tmp_path / "s")
    caption(tmp_path / "s", (moved / "vi", moved / "ir"))
    assert sum(name.endswith(".png") for name in read) == 0
    (tmp_path / "s/logs/planned.json").unlink()
    caption(tmp_path / "s", (moved / "vi", moved / "ir"))
    assert sum(name.endswith(".png") for name in read) == 4


def test_captions_that_changed_are_not_embedded_into_the_prior_of_the_old_ones(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(8)
    assert caption(tmp_path / "s", folders, do_fail=0.5).failed
    again: dict[str, Any] = {"captioner": None, "embedder": "hashing", "embedder_settings": {"width": "64"}}
    caption(tmp_path / "s", None, **again)
    caption(tmp_path / "s", None, **again)
    assert caption(tmp_path / "s", folders, retry_failed=True).failed == 0
    with pytest.raises(FingerprintMismatch, match="captioner.frozen 'text "):
        caption(tmp_path / "s", None, **again)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 2}, "--limit 2: .* is planned with no limit, "),
        ({"shard_size": 5}, "--shard-size 5: .* is planned with 4, "),
        ({"root": Path("nowhere")}, "nowhere: no such data folder"),
    ],
)
def test_a_store_that_is_named_alone_is_not_planned_otherwise(
    tmp_path: Path, draw_pairs: Any, options: dict[str, Any], said: str
) -> None:
    caption(tmp_path / "s", draw_pairs(6), shard_size=4)
    before = contents(tmp_path / "s")
    with pytest.raises(InputError, match=said):
        caption(tmp_path / "s", None, prior="second", **options)
    assert contents(tmp_path / "s") == before
    caption(tmp_path / "s", None, prior="second", shard_size=4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--store", "s", "--split", "test"), "--split test: --store alone means all pairs of s; "),
        (("--pairs", "data/vi", "data/ir", "--split", "test"), "are all of the split train; describe splits"),
        (("--pairs", "data/vi", "data/ir", "--root", "data"), "--root data: it goes with --dataset; "),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    tmp_path: Path, draw_pairs: Any, fusioncli: Run, words: tuple[str, ...], said: str
) -> None:
    folders = draw_pairs(2)
    caption(tmp_path / "s", folders)
    done = fusioncli("caption", *words, "--captioner", "measured", "--embedder", "hashing", "--prior", "second")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert not (tmp_path / "s/priors/second").exists() and not (tmp_path / "stores").exists()


def test_a_lost_tar_is_made_again_from_the_root_that_is_given_with_the_store(
    tmp_path: Path, draw_pairs: Any, fusioncli: Run
) -> None:
    first, _ = draw_pairs(3)
    words = ("--captioner", "measured", "--embedder", "hashing", "--workers", 1)
    assert fusioncli("caption", "--pairs", *draw_pairs(3), "--split", "train", "--store", "s", *words).returncode == 0
    before = contents(tmp_path / "s")
    (tmp_path / "s/images/shard-000000.tar").unlink()
    done = fusioncli("caption", "--store", "s", *words)
    assert done.returncode == 2 and "give --root so that it can be made again" in done.stderr
    done = fusioncli("caption", "--store", "s", "--root", first.parent, *words)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "s") == before
