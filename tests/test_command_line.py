"""What every command has in common: --json beside tables, --quiet, NO_COLOR, exit codes."""

from __future__ import annotations

import inspect
import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from command_line import REPOSITORY, Run
from pipeline import errors
from pipeline.synth import draw_pairs
from test_package import every_command

COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|9[0-7])m")


def name(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else ""


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(("words", "command"), every_command(), ids=name)
def test_every_command_that_prints_a_table_has_json(words: tuple[str, ...], command: Any) -> None:
    source = inspect.getsource(inspect.unwrap(command.callback))
    prints = re.search(r"\bshow_(table|summary)\(|\banswers\(\)\.print\(", source)
    if prints:
        assert "--json" in options(command), f"{name(words)} prints an answer that no script can read"
    if "--json" in options(command):
        assert "check_json(json" in source, f"{name(words)} notices only at its end that --json is no file"


@pytest.mark.parametrize(("words", "command"), every_command(), ids=name)
def test_every_option_says_what_it_is_for(words: tuple[str, ...], command: Any) -> None:
    for parameter in command.params:
        if parameter.name not in ("help",) and parameter.param_type_name == "option":
            assert parameter.help, f"{name(words)}: {parameter.opts[0]} has no help"


@pytest.mark.parametrize(("words", "command"), every_command(), ids=name)
def test_every_command_takes_quiet_and_shows_its_help(words: tuple[str, ...], command: object) -> None:
    done = CliRunner().invoke(cli.app, ["--quiet", *words, "--help"])
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize(("words", "command"), every_command(), ids=name)
def test_an_unknown_option_of_any_command_is_wrong_usage(words: tuple[str, ...], command: object) -> None:
    done = CliRunner().invoke(cli.app, [*words, "--no-such-option"])
    assert done.exit_code == 2
    assert "no-such-option" in done.stderr.replace("\n", " ")


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    runs = (
        ["data", "list"],
        ["data", "synth", str(tmp_path / "drawn"), "--pairs", "2", "--height", "48", "--width", "64"],
    )
    for words in runs:
        done = CliRunner().invoke(cli.app, ["--quiet", *words, "--json", "-"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)
        assert done.stderr == ""


@pytest.mark.parametrize("place", [".", "no/such/place.json"])
def test_json_that_can_be_no_file_is_noticed_first(fusioncli: Run, place: str) -> None:
    for words in (["nets"], ["score", "nowhere", "nowhere", "nowhere"], ["store", "verify", "nowhere"]):
        done = fusioncli(*words, "--json", place)
        assert done.returncode == 2 and done.stderr.startswith("fusioncli: --json "), done.stderr
        assert done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (("nets", "--json", ""), "--json"),
        (("bench", "--dataset", "roadscene", "--out", ""), "--out"),
        (("store", "show", "stores/mine", "--key", ""), "--key"),
        (("fuse", "a.png", "", "--out", "f.png"), "a.png"),
        (("",), "fusioncli"),
    ],
)
def test_an_empty_word_is_no_path_and_no_name(
    fusioncli: Run, tmp_path: Path, words: tuple[str, ...], before: str
) -> None:
    done = fusioncli(*words)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr == f"fusioncli: nothing after {before}, only empty quotes; is a variable of the shell unset?\n"


def test_json_replaces_no_pipe_and_no_link(fusioncli: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = fusioncli("nets", "--json", "pipe")
    assert done.returncode == 2 and "--json pipe: no regular file" in done.stderr
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "target.json").write_text("[]")
    (tmp_path / "link.json").symlink_to("target.json")
    assert fusioncli("nets", "--json", "link.json").returncode == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text())


@pytest.mark.parametrize("words", [("store", "report", "nowhere"), ("text-study", "--store", "nowhere", "--arm", "a")])
@pytest.mark.parametrize("place", [".", "no/such/place"])
def test_an_output_that_can_be_no_file_is_noticed_first(fusioncli: Run, words: tuple[str, ...], place: str) -> None:
    done = fusioncli(*words, "--out", place)
    assert done.returncode == 2 and done.stderr.startswith(f"fusioncli: --out {place}: "), done.stderr


def test_a_lack_of_memory_is_one_sentence(tmp_path: Path) -> None:
    """A process that may have 1 GB, and a scene that needs more."""
    lines = "import resource, sys, cli; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); cli.main()"
    words = ["data", "synth", "drawn", "--pairs", "1", "--height", "4096", "--width", "4096"]
    done = subprocess.run(
        [sys.executable, "-c", lines, *words],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "fusioncli: out of memory" in done.stderr.splitlines()[-1], done.stderr


def in_a_terminal(arguments: list[str], cwd: Path, **environment: str) -> bytes:
    """What the command shows when standard output and error are a terminal."""
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", **environment},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait(60) == 0
    return shown


def test_colours_and_progress_end_where_they_are_not_wanted(tmp_path: Path) -> None:
    draw = ["data", "synth", "--pairs", "1", "--height", "48", "--width", "64"]
    assert COLOUR.search(in_a_terminal([*draw, "one"], tmp_path))
    plain = in_a_terminal([*draw, "two"], tmp_path, NO_COLOR="1")
    assert not COLOUR.search(plain) and b"drawing" in plain
    quiet = in_a_terminal(["--quiet", *draw, "three"], tmp_path)
    assert b"drawing" not in quiet and b"next:" not in quiet and b"1 pair in" in quiet


def test_a_wide_table_can_be_read_on_a_narrow_terminal(tmp_path: Path) -> None:
    """Columns that do not fit come in tables below one another; costs that were not measured have none."""
    draw_pairs(tmp_path / "synthetic", 5, 0, height=64, width=64)
    bench = ["bench", "--dataset", "synthetic", "--root", ".", "--method", "tiny=nano", "--no-cost", "--device", "cpu"]
    shown = in_a_terminal(["--quiet", *bench], tmp_path, NO_COLOR="1", COLUMNS="60").decode()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    rows = [line for line in shown.splitlines() if "│ tiny " in line]
    assert max(map(len, shown.splitlines())) <= 60 and len(rows) > 2, shown
    assert len(re.findall(r"(\d\.\d{3,}[*+]?|–) +│", "".join(rows))) == 13, shown
    assert "…" not in shown and "params" not in shown


def test_the_version_stands_alone(fusioncli: Run) -> None:
    done = fusioncli("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{version('fusioncli')}\n", "")


def test_an_empty_data_folder_is_none_named(fusioncli: Run) -> None:
    done = fusioncli("data", "check", "tno", FUSIONCLI_DATA="")
    assert done.returncode == 2 and done.stderr.startswith("fusioncli: data: no such data folder"), done.stderr


def test_broken_yaml_is_one_line_with_its_place(fusioncli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("title: ours\nsplits: [train\nfolder: x\n")
    done = fusioncli("data", "check", "mine.yaml", "--root", ".")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("fusioncli: mine.yaml, line 3, column 7: not valid YAML"), done.stderr


@pytest.mark.parametrize("words", [("data", "check", "mine"), ("bench", "--dataset", "mine")])
def test_a_hint_names_no_option_that_the_command_lacks(fusioncli: Run, words: tuple[str, ...]) -> None:
    done = fusioncli(*words)
    assert done.returncode == 2 and "no data set called 'mine'" in done.stderr and "--pairs" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"), [(("--engine", "tensorrt"), "no such engine"), ((), "a folder; give a file")]
)
def test_what_fuse_cannot_do_is_named_for_what_it_is(
    fusioncli: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    draw_pairs(tmp_path / "own", 1, 0, height=64, width=64)
    (pair,) = ((path, tmp_path / "own" / "ir" / path.name) for path in (tmp_path / "own" / "vi").iterdir())
    done = fusioncli("fuse", *pair, "--out", "fused.png" if words else tmp_path / "own", *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_fusing_a_folder_again_says_what_was_kept(fusioncli: Run, tmp_path: Path) -> None:
    draw_pairs(tmp_path / "own", 3, 0, height=64, width=64)
    again = ("fuse", "own/vi", "own/ir", "--out", "out", "--weights", "nano", "--device", "cpu")
    assert "3 fused images in out (3 new, 0 kept), log: out/fused.csv" in fusioncli(*again).stderr
    next((tmp_path / "out").glob("*.png")).unlink()
    assert "3 fused images in out (1 new, 2 kept), log: out/fused.csv" in fusioncli(*again).stderr


def test_an_interrupted_command_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 130


def test_a_failure_is_one_line_with_its_code(fusioncli: Run) -> None:
    done = fusioncli("store", "verify", "nowhere")
    assert done.returncode == errors.StoreError.exit_code == 2
    assert done.stderr.startswith("fusioncli: nowhere: no store here")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", ["nets", "fuse nowhere.png nowhere.png --out f.png", "help topics"])
def test_streams_that_are_closed_are_no_failure(words: str, closed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m cli {words} {closed}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == (2 if words.startswith("fuse") else 0), done.stderr
    assert "Traceback" not in done.stderr
