"""Captioning what is odd: names, damaged images, captions made elsewhere, wrong settings, too many failures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.imported import ImportedCaptioner, ImportSettings
from pipeline.captioning import parse_allowance
from pipeline.errors import FingerprintMismatch, InputError, TooManyFailures
from pipeline.images import Picture
from pipeline.job import Job, JobSpec
from pipeline.store import Store
from pipeline.task_file import load_task
from pipeline.verify import verify
from stores import caption, contents


@pytest.mark.parametrize(
    ("allowed", "fine"), [("0%", False), ("1%", False), ("99%", True), ("100", True), ("0", False)]
)
def test_max_failed_decides(tmp_path: Path, draw_pairs: Any, allowed: str, fine: bool) -> None:
    folders = draw_pairs(30)
    if fine:
        caption(tmp_path / "s", folders, max_failed=allowed, do_fail=0.3)
        return
    with pytest.raises(TooManyFailures, match="--retry-failed") as caught:
        caption(tmp_path / "s", folders, max_failed=allowed, do_fail=0.3)
    assert caught.value.exit_code == 3
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_all_may_fail_where_that_is_said(tmp_path: Path, draw_pairs: Any) -> None:
    assert caption(tmp_path / "s", draw_pairs(3), max_failed="100%", do_fail=1.0).failed == 3


def test_as_many_failures_as_are_allowed_are_allowed(tmp_path: Path, draw_pairs: Any) -> None:
    """As a number and as a share; eighths are exact in binary. One less is too few."""
    folders = draw_pairs(8)
    failed = caption(tmp_path / "s", folders, do_fail=0.5).failed
    assert 1 <= failed <= 7
    for allowed in (str(failed), f"{12.5 * failed}%"):
        assert caption(tmp_path / "s", folders, max_failed=allowed).failed == failed
    for allowed in (str(failed - 1), f"{12.5 * failed - 0.1}%"):
        with pytest.raises(TooManyFailures, match=f"{failed} of 8 pairs failed"):
            caption(tmp_path / "s", folders, max_failed=allowed)


def test_an_allowance_is_a_share_or_a_number() -> None:
    assert (parse_allowance("1%"), parse_allowance("20"), parse_allowance("0%")) == (0.01, 20, 0)
    for wrong in ("abc", "-1", "101%", "0.5", "nan", "inf", "nan%"):
        with pytest.raises(InputError, match="--max-failed"):
            parse_allowance(wrong)


def test_captions_made_elsewhere_come_in(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "p0000.txt").write_text("**Event Type:** Low Light\n\nDescription: the street is dark")
    (texts / "p0001.json").write_text('{"visible": [{"type": "clean"}], "infrared": []}')
    settings = {"captioner": "import", "do_folder": texts}
    assert caption(tmp_path / "s", folders, **settings).errors == {"missing": 1}
    rows = Store.open(tmp_path / "s").rows().to_pylist()
    assert rows[0]["events"][0]["description"] == "the street is dark"
    assert rows[0]["loss_weights"]["intensity"] == 48
    assert rows[1]["loss_weights"]["intensity"] == 24
    (texts / "p0000.txt").write_text("Event Type: Clean")
    with pytest.raises(FingerprintMismatch, match=r"captioner\.content"):
        caption(tmp_path / "s", folders, **settings)


def test_captions_that_can_be_read_in_part_are_failed_rows(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    (tmp_path / "texts").mkdir()
    for number, answer in enumerate(
        (
            {"visible": [{"event_type": "low_light"}], "infrared": "clean"},
            {"visible": {"type": ["low_light", "noise"]}, "infrared": "clean"},
            {"infrared": "clean"},
        )
    ):
        (tmp_path / "texts" / f"p{number:04d}.json").write_text(json.dumps(answer))
    summary = caption(tmp_path / "s", folders, captioner="import", do_folder=tmp_path / "texts", max_failed="2")
    assert (summary.pairs, summary.errors) == (3, {"unparsable": 2})
    read, *failed = Store.open(tmp_path / "s").rows().to_pylist()
    assert [event["type"] for event in read["events"]] == ["low_light", "clean"]
    assert "['low_light', 'noise']" in failed[0]["error"] and "no 'visible'" in failed[1]["error"]
    assert verify(Store.open(tmp_path / "s")).problems == []


def test_captions_made_elsewhere_are_found_by_the_stems_of_odd_names(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(3)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number, stem in enumerate(("my image 1", "frame.0002", "nächtlich")):
        for folder in folders:
            (folder / f"p{number:04d}.png").rename(folder / f"{stem}.png")
        (texts / f"{stem}.txt").write_text(f"Event Type: Low Light\nDescription: said of {stem}")
    assert caption(tmp_path / "s", folders, captioner="import", do_folder=texts).failed == 0
    store = Store.open(tmp_path / "s")
    for row, said in zip(store.plan(), store.rows().to_pylist(), strict=True):
        assert said["events"][0]["description"] == f"said of {Path(row.first).stem}"


def test_a_caption_for_a_stem_that_two_pairs_share_is_given_to_neither(tmp_path: Path) -> None:
    """One stem in two splits: their keys tell them apart, a file named by the stem does not."""
    task, picture = load_task("ivf"), Picture(pixels=np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / "a.txt").write_text("Event Type: Low Light")
    (tmp_path / "test_a-0badf00d.txt").write_text("Event Type: Motion Blur")
    captioner = ImportedCaptioner(task, ImportSettings(folder=tmp_path))
    keys = ("train_a-deadbeef", "test_a-0badf00d", "a")
    requests = [CaptionRequest(key=key, pair_id=key, first=picture, second=picture, stem="a") for key in keys]
    train, test, alone = captioner.caption(requests)
    assert train.error_kind == "missing"
    assert [caption.events[0].type for caption in (test, alone)] == ["motion_blur", "low_light"]


def test_a_caption_saved_by_a_windows_editor_is_read(tmp_path: Path) -> None:
    """Such a file begins with a byte order mark."""
    task, picture = load_task("ivf"), Picture(pixels=np.zeros((8, 8), dtype=np.uint8))
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfEvent Type: Low Light\r\nDescription: dark\r\n")
    captioner = ImportedCaptioner(task, ImportSettings(folder=tmp_path))
    (found,) = captioner.caption([CaptionRequest(key="a", pair_id="a", first=picture, second=picture, stem="a")])
    assert [(event.type, event.description) for event in found.events] == [("low_light", "dark")]


def test_a_pair_with_a_damaged_image_is_a_failed_row(tmp_path: Path, draw_pairs: Any) -> None:
    """A TIFF that announces another page and has none: Pillow finds that out late, in a way of its own."""
    folders = draw_pairs(3)
    (folders[0] / "p0001.png").unlink()
    path = folders[0] / "p0001.tif"
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    following = 8 + 2 + 12 * int.from_bytes(content[8:10], "little")  # where the next page's directory is announced
    content[following : following + 4] = len(content).to_bytes(4, "little")
    path.write_bytes(content + bytes(6))
    summary = caption(tmp_path / "s", folders)
    assert (summary.pairs, summary.errors) == (3, {"image": 1})
    assert "p0001.tif: the image is damaged" in str(summary.first_error)


def test_the_counts_are_told_when_too_many_failed(tmp_path: Path, draw_pairs: Any, fusioncli: Any) -> None:
    folders = draw_pairs(4)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "p0000.txt").write_text("Event Type: Clean")
    words = ("--captioner", "import", "--from", "texts", "--embedder", "hashing", "--store", "s", "--workers", 1)
    done = fusioncli("caption", "--pairs", *folders, *words, "--json", "counts.json")
    assert done.returncode == 3
    assert json.loads((tmp_path / "counts.json").read_text())["errors"] == {"missing": 3}


def test_a_prior_begun_wrongly_says_how_to_begin_anew(tmp_path: Path, draw_pairs: Any) -> None:
    folders = draw_pairs(2)
    with pytest.raises(InputError, match="width=0: at least 1"):
        caption(tmp_path / "s", folders, embedder_settings={"width": "0"})
    assert not (tmp_path / "s").exists()
    caption(tmp_path / "s", folders, prior="other")
    for width, again in (("64", "32"), ("32", "64")):
        Job(JobSpec(**spec_of(tmp_path / "s", width))).close()
        with pytest.raises(FingerprintMismatch, match="nothing being captioned yet, remove .*/priors/text"):
            Job(JobSpec(**spec_of(tmp_path / "s", again)))
        shutil.rmtree(tmp_path / "s/priors/text")
    caption(tmp_path / "s", folders)
    with pytest.raises(FingerprintMismatch, match="--prior NAME$"):
        caption(tmp_path / "s", folders, embedder_settings={"width": "64"})


def spec_of(store: Path, width: str) -> dict[str, Any]:
    settings = {"store": str(store), "prior": "text", "root": None, "task": "ivf"}
    return settings | {"captioner": "scripted", "embedder": "hashing", "embedder_settings": {"width": width}}


def test_folders_named_by_way_of_the_parent_are_found(
    tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = draw_pairs(2)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    second.rename(tmp_path / "work" / "ir")
    caption(tmp_path / "s", (Path("../data/vi"), Path("ir")))
    assert [row.first for row in Store.open(tmp_path / "s").plan()] == ["data/vi/p0000.png", "data/vi/p0001.png"]


def test_a_pair_whose_imported_caption_failed_is_retried_with_its_new_file(tmp_path: Path, draw_pairs: Any) -> None:
    """One had no file, one had nothing in it that can be read; the store is then as if they had been there at once."""
    folders = draw_pairs(5)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in (0, 1, 2, 4):
        (texts / f"p{number:04d}.txt").write_text("Event Type: Low Light\r\nDescription: dark\n")
    (texts / "p0001.txt").write_text("nobody knows")
    settings = {"captioner": "import", "do_folder": texts, "shard_size": 2}
    assert caption(tmp_path / "s", folders, **settings).errors == {"missing": 1, "unparsable": 1}
    (texts / "p0001.txt").write_text("Event Type: Motion Blur")
    (texts / "p0003.json").write_text('{"visible": [{"type": "clean"}], "infrared": []}')
    with pytest.raises(FingerprintMismatch, match=r"captioner\.files 4, now 5; .* by --retry-failed"):
        caption(tmp_path / "s", folders, **settings)
    assert caption(tmp_path / "s", folders, retry_failed=True, **settings).failed == 0
    caption(tmp_path / "whole", folders, **settings)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert caption(tmp_path / "s", folders, **settings).failed == 0


@pytest.mark.parametrize("change", ["other", "gone"])
def test_a_file_of_a_captioned_pair_that_changed_is_refused_by_a_retry_too(
    tmp_path: Path, draw_pairs: Any, change: str
) -> None:
    folders = draw_pairs(4)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in (1, 2):
        (texts / f"p{number:04d}.txt").write_text("Event Type: Low Light")
    settings = {"captioner": "import", "do_folder": texts, "shard_size": 2}
    caption(tmp_path / "s", folders, **settings)
    before = contents(tmp_path / "s")
    (texts / "p0000.txt").write_text("Event Type: Low Light")
    if change == "other":
        (texts / "p0002.txt").write_text("Event Type: Clean")
    else:
        (texts / "p0002.txt").unlink()
    with pytest.raises(
        FingerprintMismatch, match=r"another caption of p0002 than its file has now; .*restore that one"
    ):
        caption(tmp_path / "s", folders, retry_failed=True, **settings)
    assert contents(tmp_path / "s") == before
