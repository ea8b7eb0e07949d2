"""Files that other programs, or other commands, made are not replaced by what a command writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import Run
from fusion.export import drafted
from fusion.folders import FolderOptions, fuse_folders
from fusion.inference import Fuser
from fusion.run import check_folder
from pipeline.console import check_file, check_json
from pipeline.errors import InputError
from pipeline.synth import draw_pairs

Refused = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw_pairs(tmp_path / "data", 3, 0, height=64, width=64)
    return tmp_path / "data"


@pytest.fixture
def refused(fusioncli: Run, tmp_path: Path) -> Refused:
    """Run a command that has to change no file; what it says."""

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def run(*arguments: str | Path) -> str:
        before = contents()
        done = fusioncli(*arguments)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("fusioncli: ") and done.stderr.count("\n") == 1, done.stderr
        assert contents() == before
        return done.stderr

    return run


def caption(data: Path, store: Path) -> list[str]:
    given = ("--pairs", data / "vi", data / "ir", "--captioner", "measured", "--embedder", "hashing", "--store", store)
    return ["caption", *map(str, given)]


@pytest.mark.parametrize("name", ["plan.parquet", "holiday.jpg", "samples/a.tar"])
def test_a_store_is_planned_in_no_folder_of_somebody_else(
    data: Path, tmp_path: Path, refused: Refused, name: str
) -> None:
    theirs = tmp_path / "theirs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    assert f"it holds: {name.split('/')[0]}" in refused(*caption(data, tmp_path / "theirs"))


@pytest.mark.parametrize("inside", ["vi", "ir/store"])
def test_a_store_is_planned_in_no_folder_of_images(data: Path, refused: Refused, inside: str) -> None:
    assert "name" in refused(*caption(data, data / inside))


def test_a_plan_that_was_cut_off_before_its_header_is_made_again(data: Path, tmp_path: Path, fusioncli: Run) -> None:
    store = tmp_path / "store"
    planned = fusioncli(*caption(data, store), "--plan-only")
    assert planned.returncode == 0, planned.stderr
    (store / "store.json").unlink()
    done = fusioncli(*caption(data, store))
    assert done.returncode == 0, done.stderr
    assert (store / "store.json").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "config.json", "log.jsonl"])
def test_a_run_replaces_no_file_that_no_training_made(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs", encoding="utf-8")
    with pytest.raises(InputError, match=f"holds {name}, made by no training"):
        check_folder(tmp_path, [], overwrite=False)
    check_folder(tmp_path, [], overwrite=True)


@pytest.mark.parametrize("name", ["model.xml", "model.bin", "export.json"])
def test_an_export_replaces_no_file_that_no_export_made(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match=f"holds {name}, made by no export"), drafted(tmp_path, "openvino"):
        pytest.fail("it began to export")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("held", ["# My page", "\x89PNG", "<html>", "{"])
def test_tables_and_pages_replace_only_their_own_kind(tmp_path: Path, held: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text(held, encoding="latin-1")
    kinds = {"{": ("{", "["), "<": ("<",), "a": ("arm,",)}
    for first, begins in kinds.items():
        if held.startswith(first):
            check_file("--out", theirs, begins)
        else:
            with pytest.raises(InputError, match="holds something else"):
                check_file("--out", theirs, begins)


def test_an_empty_file_made_for_the_table_is_taken(tmp_path: Path) -> None:
    (tmp_path / "table.json").touch()
    check_json(str(tmp_path / "table.json"))


def test_a_table_asked_for_twice_in_one_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file of --out"):
        check_json(str(tmp_path / "table"), tmp_path / "up" / ".." / "table")


def test_json_replaces_no_image(data: Path, refused: Refused) -> None:
    image = next((data / "vi").iterdir())
    assert "holds something else" in refused("nets", "--json", image)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_among_the_outputs_does_not_lead_to_an_image_of_the_input(data: Path, tmp_path: Path) -> None:
    image = sorted((data / "ir").iterdir())[1]
    before = image.read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{image.stem}.png").symlink_to(image)
    fuser = Fuser.from_pretrained("nano", device="cpu")
    with pytest.raises(InputError, match="one of the images to be fused"):
        fuse_folders(fuser, data / "vi", data / "ir", tmp_path / "out", FolderOptions())
    assert image.read_bytes() == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{image.stem}.png"]
