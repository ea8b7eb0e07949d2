"""Weights that travel: saved to a folder, pushed to a hub and fetched from it by the Hub's own client."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import REPOSITORY
from fusion import Fuser
from fusion.weights import load_weights
from hub_server import TOKEN, serve
from pipeline.errors import InputError, WeightsError

PUSH = """
import sys
from fusion import Fuser
print(Fuser.from_pretrained(sys.argv[1]).push_to_hub(sys.argv[2], commit_message="Fused by hand"))
"""
FETCH = """
import sys
from fusion import Fuser
Fuser.from_pretrained(sys.argv[1], revision="main").save_pretrained(sys.argv[2])
"""
TELL = """
from pipeline.errors import WeightsError
from fusion import Fuser
for what in {whats}:
    try:
        eval(what)
    except WeightsError as error:
        print(error)
"""


def python(code: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the Hub's client reads its environment once, when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_weights(folder).network.state_dict())


@pytest.mark.parametrize("name", ["edge", "nano"])
def test_a_saved_network_loads_as_it_was(name: str, tmp_path: Path) -> None:
    fuser = Fuser.from_pretrained(name)
    fuser.save_pretrained(tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    again = Fuser.from_pretrained(tmp_path / "mine")
    rng = np.random.default_rng(0)
    visible, infrared = rng.integers(0, 256, (37, 51, 3), np.uint8), rng.integers(0, 256, (37, 51), np.uint8)
    assert (again(visible, infrared) == fuser(visible, infrared)).all()
    assert again.weights is not None and fuser.weights is not None
    assert again.weights.card == fuser.weights.card  # the scores travel with the weights
    assert again.weights.config.items() >= {"task": "ivf", "training": fuser.weights.config["training"]}.items()


def test_a_swapped_pair_of_pictures_is_refused() -> None:
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="a colour image where the infrared or MRI image was expected"):
        Fuser.from_pretrained("nano")(colour.convert("L"), colour)


def test_a_network_without_a_card_gets_a_plain_one(tmp_path: Path) -> None:
    Fuser.from_pretrained("nano").save_pretrained(tmp_path / "one")
    (tmp_path / "one" / "README.md").unlink()
    Fuser.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    card = (tmp_path / "two" / "README.md").read_text()
    assert "library_name: fusioncli" in card
    assert "parameters" in card


def test_pickles_are_not_read_even_when_nothing_else_is_there(tmp_path: Path) -> None:
    Fuser.from_pretrained("nano").save_pretrained(tmp_path / "one")
    torch.save(load_weights("nano").network.state_dict(), tmp_path / "one" / "pytorch_model.bin")
    (tmp_path / "one" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: missing"):
        Fuser.from_pretrained(tmp_path / "one")


def test_an_exported_network_says_that_there_is_nothing_to_save(tmp_path: Path) -> None:
    from fusion.export import export_network

    export_network("nano", "torchscript", tmp_path / "exported", "fp32")
    fuser = Fuser.from_pretrained(tmp_path / "exported", engine="torchscript")
    with pytest.raises(InputError, match="copy its folder"):
        fuser.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    Fuser.from_pretrained("nano").save_pretrained(tmp_path / "saved")
    before = content(tmp_path / "saved")
    with pytest.raises(InputError, match="copy its folder"):
        fuser.save_pretrained(tmp_path / "saved")
    assert content(tmp_path / "saved") == before, "weights that were there are still whole"
    with pytest.raises(InputError, match="copy its folder"):
        fuser.push_to_hub("owner/name")  # before a repository is made for it


def test_a_folder_of_weights_survives_what_cannot_be_saved_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "saved"
    Fuser.from_pretrained("nano").save_pretrained(folder)
    before = content(folder)
    with pytest.raises(InputError, match=r"config\.json: a file where the folder"):
        Fuser.from_pretrained("edge").save_pretrained(folder / "config.json")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"config\.json/x: not a folder that weights can be written to"):
        Fuser.from_pretrained("edge").save_pretrained(folder / "config.json" / "x")
    card = (folder / "README.md").read_bytes()
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    with pytest.raises(InputError, match="a folder where a file is to be written"):
        Fuser.from_pretrained("edge").save_pretrained(folder)
    (folder / "README.md").rmdir()
    (folder / "README.md").write_bytes(card)
    assert content(folder) == before
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Fuser.from_pretrained("edge").save_pretrained(folder)
    assert content(folder) == before


def test_a_process_killed_while_it_saves_leaves_a_whole_network(tmp_path: Path) -> None:
    """Ended after each write in turn, the folder holds the network that was there or the one that was to be."""
    folder = tmp_path / "saved"
    known = {name: Fuser.from_pretrained(name).identity for name in ("nano", "edge")}
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom fusion.inference import Fuser\n"
        "left, plain = int(sys.argv[1]), Path.write_bytes\n"
        "def counted(path, content):\n    global left\n    left -= 1\n"
        "    plain(path, content)\n    if left == 0: os._exit(9)\n"
        "fuser = Fuser.from_pretrained('edge')\nPath.write_bytes = counted\nfuser.save_pretrained(sys.argv[2])\n"
    )
    for writes in (1, 2, 3):
        Fuser.from_pretrained("nano").save_pretrained(folder)
        done = subprocess.run([sys.executable, "-c", code, str(writes), str(folder)], check=False, timeout=120)
        assert done.returncode == 9
        assert Fuser.from_pretrained(folder).identity == known["nano"]
    Fuser.from_pretrained("edge").save_pretrained(folder)
    assert Fuser.from_pretrained(folder).identity == known["edge"], "half precision stays half precision"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pushed_and_fetched_over_http(tmp_path: Path) -> None:
    with serve() as hub:
        there = {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "cache")}
        pushed = python(PUSH, "edge", "someone/edge", **there)
        assert pushed.returncode == 0, pushed.stderr
        assert pushed.stdout.strip().startswith(hub.address)
        files = hub.repositories["someone/edge"]
        assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
        assert files["README.md"].decode() == load_weights("edge").card
        files["modeling_edge.py"] = b"raise SystemExit('ran code from a repository')"  # nobody asks for it
        config = {**json.loads(files["config.json"]), "auto_map": {"AutoModel": "modeling_edge.Edge"}}
        files["config.json"] = json.dumps(config).encode()
        fetched = python(FETCH, "someone/edge", tmp_path / "back", **there)
        assert fetched.returncode == 0, fetched.stderr
        assert not any("modeling_edge" in path for path in hub.fetched)
    ours = load_weights("edge").network.state_dict()
    theirs = tensors(tmp_path / "back")
    assert all((theirs[name] == value).all() for name, value in ours.items())


@pytest.mark.parametrize(
    ("environment", "sentences"),
    [
        (
            {"HF_HUB_OFFLINE": "1"},
            {
                'Fuser.from_pretrained("nano").push_to_hub("me/nano")': "HF_HUB_OFFLINE is set",
                'Fuser.from_pretrained("me/nano")': "not to be had from the Hub",
            },
        ),
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_x"},
            {
                'Fuser.from_pretrained("nano").push_to_hub("a/b/c")': "not a repository's name",
                'Fuser.from_pretrained("nano").push_to_hub("me/nano")': "check the network",
            },
        ),
    ],
)
def test_what_cannot_be_reached_is_one_sentence(
    environment: dict[str, str], sentences: dict[str, str], tmp_path: Path
) -> None:
    code = TELL.format(whats=list(sentences))
    done = python(code, **{"HF_HOME": str(tmp_path), **environment})
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(sentences)
    assert all(sentence in line for sentence, line in zip(sentences.values(), said, strict=True))


def test_a_refusal_says_how_to_log_in(tmp_path: Path) -> None:
    with serve() as hub:
        there = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_wrong", "HF_HOME": str(tmp_path)}
        done = python(TELL.format(whats=['Fuser.from_pretrained("nano").push_to_hub("me/nano")']), **there)
    assert "401" in done.stdout and "hf auth login" in done.stdout
