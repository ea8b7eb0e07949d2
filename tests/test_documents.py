"""Every command and every piece of Python in README and docs: checked against the real program, and executed.

All shell lines are parsed against the real options (default suite). The guides are then executed from top to bottom in a
folder of their own (slow); what cannot run here, and why, is in NOT_HERE and nowhere else.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

import cli
from command_line import REPOSITORY, SHIM
from pipeline.manifest import parse_manifest
from shell_lines import check_line
from test_package import every_command

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
DOCUMENTS = [*(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "docker/README.md")), *PAGES]
EXECUTED = ("README", "quickstart", "own-data", "training", "benchmarking", "deploying", "metrics", "command-line")
NOT_HERE = {
    r"^make ": "builds the environment that this test runs in; `make test` and CI run the targets",
    r"^pip install": "the extras are installed with the tests; test_docker.py runs an install",
    r"^(docker|ray|vllm|accelerate) ": "needs a container engine, a cluster or GPUs; parsed only",
    r"^fusioncli demo": "serves until it is interrupted; test_demo_browser.py runs it",
    r"--show-completion": "asks which shell called it; test_command_line.py completes words",
    r"(msrs|roadscene|harvard)": "needs the data set; the guides do the same on drawn pairs",
    r"\.mp4": "needs two videos; test_video.py runs it",
    r"--to (onnx|openvino)": "needs the extra export; test_export.py runs it",
}
SMALLER = {  # what is added to a command, so that it takes seconds: the words of the documents stay as they are
    "train-teacher": ["--set", "steps=6"],
    "distill": ["--set", "steps=6"],
    "data synth": ["--height", "96", "--width", "128"],
}


class Block(NamedTuple):
    """A fenced block: its language, its lines, where it is."""

    language: str
    lines: tuple[str, ...]
    where: str


def blocks(path: Path) -> Iterator[Block]:
    language, lines, start = None, [], 0
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, lines, start = line[3:].strip(), [], number
        else:
            yield Block(language, tuple(lines), f"{path.relative_to(REPOSITORY)}:{start}")
            language = None
    assert language is None, f"{path}: a block is not closed"


def commands(block: Block) -> list[str]:
    """The shell lines of a block, without comments."""
    return [line for line in block.lines if line.strip() and not line.startswith("#")] if block.language == "sh" else []


ALL = [block for path in DOCUMENTS for block in blocks(path)]


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "sh"], ids=lambda block: block.where)
def test_every_command_has_the_options_it_is_given(block: Block) -> None:
    for line in commands(block):
        check_line(line)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "python"], ids=lambda block: block.where)
def test_every_piece_of_python_compiles(block: Block) -> None:
    compile("\n".join(block.lines), block.where, "exec")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_command_hides_outside_a_shell_block(path: Path) -> None:
    assert {block.language for block in blocks(path)} <= {"sh", "python", "text", "yaml"}
    outside = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^ {4}(fusioncli|make|pip|docker) ", outside, re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_option_that_is_mentioned_exists(path: Path) -> None:
    known = {option for _, command in every_command() for parameter in command.params for option in parameter.opts}
    known |= {"--quiet", "--help", "--version", "--install-completion", "--show-completion"}
    known |= {
        "--no-audio",
        "--no-cost",
        "--no-cache",
        "--array",
        "--requeue",
        "--dependency",
        "--build-arg",
        "--threads",
        "--part",
    }
    for option in re.findall(r"`(--[a-z][a-z0-9-]+)", path.read_text()):
        assert option in known, f"{path.name}: no command has {option}"


def test_the_site_has_every_page_and_the_guides_that_were_promised() -> None:
    site = yaml.safe_load((REPOSITORY / "docs" / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/.-]+\.md", str(site["nav"])))
    assert listed == {str(path.relative_to(REPOSITORY / "docs")) for path in PAGES}
    assert site["theme"]["font"] is False  # nothing is fetched from elsewhere
    assert "make docs" in (REPOSITORY / ".ci" / "run").read_text()


def test_the_description_of_a_data_set_of_ones_own_is_one() -> None:
    (block,) = (block for block in blocks(REPOSITORY / "docs" / "guides" / "own-data.md") if block.language == "yaml")
    found = parse_manifest("my-cameras", "\n".join(block.lines))
    assert set(found.splits) == {"train", "test"} and found.folder == "my-cameras"


def test_what_is_not_executed_is_really_written_somewhere() -> None:
    lines = [line for block in ALL for line in commands(block)]
    for pattern in NOT_HERE:
        assert any(re.search(pattern, line) for line in lines), f"{pattern}: an exception without a use"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with what the documents take for granted: a pair as files, two folders of pairs."""
    from pipeline.synth import draw_pairs

    draw_pairs(tmp_path / "drawn", 3, 4, height=176, width=192)
    shutil.copytree(tmp_path / "drawn" / "vi", tmp_path / "visible_folder")
    shutil.copytree(tmp_path / "drawn" / "ir", tmp_path / "infrared_folder")
    for name in ("visible", "infrared"):
        shutil.copy(next((tmp_path / f"{name}_folder").iterdir()), tmp_path / f"{name}.png")
    shutil.rmtree(tmp_path / "drawn")
    return tmp_path


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{SHIM}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "FUSIONCLI_DATA": "",  # the guides draw their own pairs
    }


def run_command(words: list[str], folder: Path) -> None:
    """In a child process: the command line as ``fusioncli`` starts it."""
    with (folder / "said.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os.chdir(folder)
    os.environ.update(environment())
    sys.argv, sys.stdout, sys.stderr = words, os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    cli.main()


def execute(line: str, folder: Path) -> None:
    """One command in a process of its own, forked from this one: torch, already imported here, costs seconds."""
    words = shlex.split(line, comments=True)
    assert words[0] == "fusioncli", f"nothing runs {line!r}"
    name = " ".join(words[1:3]) if words[1] == "data" else words[1]
    if "--resume" not in words:
        words += SMALLER.get(name, [])
    child = multiprocessing.get_context("fork").Process(target=run_command, args=(words, folder))
    child.start()
    child.join(1500)
    assert child.exitcode == 0, f"{line}: {child.exitcode}\n{(folder / 'said.txt').read_text()[-3000:]}"


PRELUDE = """
import numpy as np
from PIL import Image
visible, infrared, fused = (np.asarray(Image.open(name)) for name in ("visible.png", "infrared.png", "fused.png"))
"""


@pytest.mark.slow  # trains small networks many times over
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", EXECUTED)
def test_a_document_runs_from_top_to_bottom(name: str, workspace: Path) -> None:
    (path,) = (path for path in DOCUMENTS if path.stem == name and path.parent.name != "docker")
    rng = np.random.default_rng(0)
    picture = Image.open(workspace / "visible.png")
    Image.fromarray(rng.integers(0, 256, (picture.height, picture.width, 3), np.uint8)).save(workspace / "fused.png")
    ran = 0
    for block in blocks(path):
        for line in commands(block):
            if not any(re.search(pattern, line) for pattern in NOT_HERE):
                execute(line, workspace)
                ran += 1
        if block.language == "python":
            code = PRELUDE + "\n".join(block.lines)
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=workspace,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, f"{block.where}\n{done.stderr[-2000:]}"
            ran += 1
    assert ran
