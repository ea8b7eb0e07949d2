"""What the command line says of itself: completion, help topics, and that they name all there is."""

from __future__ import annotations

import fnmatch
import re
from importlib.resources import files

import pytest
from typer.testing import CliRunner

import cli
from command_line import REPOSITORY
from fusion.recipe import recipe_names
from fusion.weights import shipped_names
from pipeline import errors

TOPICS = {item.name.removesuffix(".txt"): item.read_text() for item in (files("pipeline") / "topics").iterdir()}


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", "fusioncli tr", "train-teacher"),
        ("bash", "fusioncli store v", "verify"),
        ("bash", "fusioncli fuse --wei", "--weights"),
        ("zsh", "fusioncli dist", "distill"),
        ("fish", "fusioncli be", "bench"),
    ],
)
def test_the_shell_finishes_words(shell: str, words: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_FUSIONCLI_COMPLETE", f"complete_{shell}")
    done = CliRunner().invoke(cli.app, [], prog_name="fusioncli")
    assert expected in done.stdout


@pytest.mark.parametrize("topic", sorted(TOPICS))
def test_a_topic_is_like_a_page_of_a_manual(topic: str) -> None:
    lines = TOPICS[topic].splitlines()
    assert lines[0].isupper() and lines[1] == "" and lines[2].endswith((".", "PowerShell."))
    assert max(map(len, lines)) <= 120
    done = CliRunner().invoke(cli.app, ["help", topic])
    assert done.stdout == TOPICS[topic]
    for other in re.findall(r"fusioncli help ([a-z-]+)", TOPICS[topic]):
        assert other in TOPICS


def test_the_topics_are_listed_and_commands_are_helped() -> None:
    listed = CliRunner().invoke(cli.app, ["help", "topics"]).stdout
    assert all(f"  {topic} " in listed for topic in TOPICS)
    assert CliRunner().invoke(cli.app, ["help"]).stdout == listed
    inner = CliRunner().invoke(cli.app, ["help", "store", "verify"]).stdout
    assert inner.startswith("Usage: ") and "store verify" in inner
    done = CliRunner().invoke(cli.app, ["help", "wieghts"])
    assert isinstance(done.exception, errors.InputError)
    assert "did you mean 'weights'" in str(done.exception)


@pytest.mark.parametrize(
    "text",
    [TOPICS["recipes"], (REPOSITORY / "docs" / "guides" / "training.md").read_text().replace("…", "*")],
    ids=["topic", "guide"],
)
def test_the_recipes_that_are_named_are_those_there_are(text: str) -> None:
    """In the first column of the table: names, or beginnings of names."""
    rows = re.findall(r"^(?:  |\| )(`?[a-z].*?)(?:  +| \|)\S?", text, re.MULTILINE)
    named = {word.strip("`") for row in rows for word in row.split(", ") if word != "recipe"}
    for recipe in recipe_names():
        assert any(fnmatch.fnmatch(recipe, word) for word in named), f"{recipe} is not named"
    for word in named:
        assert fnmatch.filter(recipe_names(), word), f"no recipe is called {word}"


def test_every_shipped_network_is_named() -> None:
    named = set(re.findall(r"[a-z-]+", TOPICS["weights"]))
    assert set(shipped_names()) <= named


def test_every_exit_code_is_documented() -> None:
    used = {0, 1, 130} | {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.FusionError)
    }
    documents = (
        TOPICS["exit-codes"],
        (REPOSITORY / "docs" / "command-line.md").read_text(),
        (REPOSITORY / "README.md").read_text(),
    )
    for text in documents:
        assert all(re.search(rf"\b{code}\b", text) for code in used)


def test_every_variable_that_is_read_is_documented() -> None:
    code = "".join(
        path.read_text() for folder in ("pipeline", "fusion") for path in (REPOSITORY / folder).rglob("*.py")
    )
    for variable in re.findall(r"""environ(?:\.get\(|\[)"([A-Z_]+)""", code):
        assert variable in TOPICS["environment"]
