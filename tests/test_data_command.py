"""`fusioncli data` as a stranger runs it: answers, JSON, exit codes, one sentence for bad input."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from pipeline.manifest import load_manifest, manifest_names
from test_command_line import in_a_terminal

Run = Callable[..., "CompletedProcess[str]"]


def one_sentence(result: CompletedProcess[str], code: int) -> str:
    assert result.returncode == code, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def test_list_names_all_and_gives_json(fusioncli: Run) -> None:
    result = fusioncli("data", "list", "--json", "-")
    assert result.returncode == 0, result.stderr
    found = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert len(found) == 9
    assert found["roadscene"]["splits"]["test"] == {
        "folders": {"visible": "vi", "infrared": "ir"}, "expected": 44, "file": "splits/roadscene-v1.yaml",
    }  # fmt: skip
    assert found["harvard-pet-mri"]["task"] == "medical"


def test_list_names_layout_terms_and_home_on_a_narrow_terminal(tmp_path: Path) -> None:
    listed = in_a_terminal(["data", "list"], tmp_path, NO_COLOR="1", COLUMNS="60").decode().replace("\r\n", "\n")
    for name in manifest_names():
        manifest = load_manifest(name)
        assert f"│ {name} " in listed and manifest.terms in listed and manifest.homepage in listed
    assert "  train and test: roadscene/vi + roadscene/ir\n" in listed
    assert "  test: msrs/test/vi + msrs/test/ir\n" in listed


def test_check_of_a_real_set(fusioncli: Run, data_root: Path, tmp_path: Path) -> None:
    result = fusioncli("data", "check", "tno", "--root", data_root, "--json", "report.json")
    assert result.returncode == 0, result.stderr
    assert "tno: 25 pairs, no problems" in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is True
    assert {split["name"]: split["pairs"] for split in report["splits"]} == {"train": 20, "test": 5}
    assert sum(report["splits"][0]["sizes"].values()) == 20


def test_check_of_a_damaged_set_fails_and_names_the_path(fusioncli: Run, data_root: Path, tmp_path: Path) -> None:
    shutil.copytree(data_root / "tno", tmp_path / "tno")
    (tmp_path / "tno" / "vi" / "07.png").write_bytes(b"")
    result = fusioncli("--quiet", "data", "check", "tno", "--root", tmp_path, "--json", "-")
    assert "1 problem;" in one_sentence(result, 1)
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["path"] == str(tmp_path / "tno" / "vi" / "07.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "roadscene", "--root", "nowhere"), "nowhere: no such data folder"),
        (("check", "roadscenes", "--root", "."), "did you mean 'roadscene'"),
        (("check", "tno", "--root", "."), "tno should lie there"),
        (("synth", "new", "--pairs", "0"), "draw at least one pair"),
        (("synth", "new", "--pairs", "99999999999999999999"), "draw at most 100,000"),
        (("synth", "new", "--height", "100000000"), "a side has 32 to 4096"),
    ],
)
def test_bad_input_is_one_sentence(fusioncli: Run, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    assert words in one_sentence(fusioncli("--quiet", "data", *arguments), 2)
    assert not list(tmp_path.iterdir())


def test_synth_draws_a_set_that_check_accepts(fusioncli: Run, tmp_path: Path) -> None:
    place = tmp_path / "with space" / "synthetic"
    result = fusioncli("data", "synth", place, "--pairs", "6", "--height", "48", "--width", "64", "--json", "-")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["pairs"] == 6
    assert len((place / "truth.jsonl").read_text().splitlines()) == 6
    checked = fusioncli("data", "check", "synthetic", "--root", place.parent)
    assert checked.returncode == 0, checked.stderr
    assert "6 pairs, no problems" in checked.stdout
    assert "not an empty folder" in one_sentence(fusioncli("--quiet", "data", "synth", place), 2)


def test_every_command_shows_an_example(fusioncli: Run) -> None:
    for name in ("list", "check", "synth"):
        assert f"Example: fusioncli data {name}" in fusioncli("data", name, "--help").stdout


def test_what_comes_next_runs_here(fusioncli: Run) -> None:
    """From drawing to a teacher by the hints alone, as far as this machine has what the first choices need."""
    drawn = fusioncli("data", "synth", "my own", "--pairs", "5", "--height", "64", "--width", "64")
    first = shlex.split(next_line(drawn.stderr))
    assert ("measured" in first) == (find_spec("vllm") is None)
    if "measured" not in first:
        first += ["--captioner", "measured", "--embedder", "hashing"]
    captioned = fusioncli(*first[1:])
    assert captioned.returncode == 0, captioned.stderr
    second = shlex.split(next_line(captioned.stderr))
    assert ("tiny" in second) == (not torch.cuda.is_available())
    assert fusioncli(*second[1:], "--set", "steps=1", "--set", "network=teacher-tiny").returncode == 0


@pytest.mark.parametrize("store", ["file", "file/store"])
def test_a_store_cannot_be_a_file(fusioncli: Run, tmp_path: Path, store: str) -> None:
    fusioncli("data", "synth", "own", "--pairs", "2", "--height", "64", "--width", "64")
    (tmp_path / "file").write_text("")
    words = ("--captioner", "measured", "--embedder", "hashing", "--store", store)
    done = fusioncli("--quiet", "caption", "--pairs", "own/vi", "own/ir", *words)
    assert one_sentence(done, 2) == f"fusioncli: --store {store}: file is a file; name a folder"


@pytest.mark.parametrize(("captioner", "option"), [("server", "--url"), ("import", "--from")])
def test_what_a_captioner_lacks_is_named_by_its_option(fusioncli: Run, captioner: str, option: str) -> None:
    fusioncli("data", "synth", "own", "--pairs", "2", "--height", "64", "--width", "64")
    words = ("--captioner", captioner, "--embedder", "hashing")
    assert f"{option} " in one_sentence(fusioncli("--quiet", "caption", "--pairs", "own/vi", "own/ir", *words), 2)


def next_line(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    return line.removeprefix("next: ")


@pytest.mark.parametrize("allowed", ["100%", "0"])
def test_where_every_pair_failed_nothing_comes_next(fusioncli: Run, tmp_path: Path, allowed: str) -> None:
    fusioncli("data", "synth", "own", "--pairs", "2", "--height", "64", "--width", "64")
    (tmp_path / "own" / "another.txt").write_text("a street")
    words = ("--captioner", "import", "--from", "own", "--embedder", "hashing", "--max-failed", allowed)
    done = fusioncli("caption", "--pairs", "own/vi", "own/ir", *words)
    assert done.returncode == (0 if allowed == "100%" else 3), done.stderr
    assert "next:" not in done.stderr
