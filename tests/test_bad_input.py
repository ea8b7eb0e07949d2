"""Wrong inputs to ``fuse``: one clear sentence, the right exit code, nothing half written."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cli
from command_line import REPOSITORY
from fusion.catalog import NETWORKS
from fusion.weights import save_weights

Attempt = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "nano"
    save_weights(folder, NETWORKS["nano"].build(), "# fresh\n")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A good pair: visible in colour, infrared grey."""
    return image(tmp_path / "vi" / "a.png", (24, 32, 3)), image(tmp_path / "ir" / "a.png", (24, 32))


@pytest.fixture
def attempt(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Attempt:
    """Run the command line in this process; give its exit code and what it said. Checks that nothing is left behind."""

    def run(*arguments: object, command: str = "fuse") -> tuple[int, str]:
        words = [command, *map(str, arguments)]
        if command == "fuse" and "--weights" not in words:
            words += ["--weights", str(weights)]
        monkeypatch.setattr(sys, "argv", ["fusioncli", *words])
        before = set(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as leave:
            cli.main()
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert set(tmp_path.rglob("*")) - before <= {tmp_path / "out"}, "something was left behind"
        code = leave.value.code
        return (code if isinstance(code, int) else 1), said

    return run


def image(path: Path, shape: tuple[int, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)).save(path)
    return path


def bomb(path: Path, side: int = 30_000) -> Path:
    """A valid PNG of ``side`` squared grey pixels in a few hundred kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side + 1) * 1000) for _ in range(side // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_a_missing_file(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = attempt(tmp_path / "nowhere.png", pair[1], "--out", tmp_path / "out.png")
    assert code == 2 and "nowhere.png: no such file" in said


def test_a_missing_folder(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = attempt(pair[0].parent, tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 2 and "nowhere" in said


def test_a_named_pipe_is_no_image(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    code, said = attempt(pair[0], tmp_path / "pipe.png", "--out", tmp_path / "out.png")
    assert code == 2 and "pipe.png: no regular file" in said


def test_an_empty_folder(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, said = attempt(pair[0].parent, tmp_path / "empty", "--out", tmp_path / "out")
    assert code == 2 and "empty" in said


def test_one_image_of_a_pair_missing(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    image(tmp_path / "vi" / "b.png", (24, 32, 3))
    code, said = attempt(tmp_path / "vi", tmp_path / "ir", "--out", tmp_path / "out")
    assert code == 2 and "b.png" in said


def test_the_modalities_swapped(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = attempt(pair[1], pair[0], "--out", tmp_path / "out.png")
    assert code == 2 and "swapped" in said and "a.png" in said


def test_different_sizes(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = attempt(pair[0], image(tmp_path / "other.png", (24, 33)), "--out", tmp_path / "out.png")
    assert code == 2 and "32 x 24" in said and "33 x 24" in said


def test_what_cannot_be_used_comes_with_what_to_do(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(b"%PDF-1.4")
    code, said = attempt(tmp_path / "scan.pdf", pair[1], "--out", tmp_path / "out.png")
    assert code == 2 and "convert it to PNG, JPEG" in said
    code, said = attempt(*pair, "--out", tmp_path / "out")
    assert code == 2 and f"name a file such as {tmp_path / 'out.png'}" in said
    pair[1].rename(pair[1].with_name("b.png"))
    code, said = attempt(pair[0].parent, pair[1].parent, "--out", tmp_path / "out")
    assert code == 2 and "give the two files of a pair one name" in said
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "export.json").write_text("{}")
    code, said = attempt(*pair, "--out", tmp_path / "out.png", "--weights", tmp_path / "exported")
    assert code == 2 and "give --engine" in said


def test_one_thing_given_twice(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pair[1].parent)
    for twice in (pair[1], pair[1].parent):
        code, said = attempt(twice, twice, "--out", tmp_path / "out")
        assert code == 2 and f"{twice}: given twice" in said
    code, said = attempt(pair[1].parent, tmp_path / "link", "--out", tmp_path / "out")
    assert code == 2 and "given twice" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty (0 bytes)"), (b"this is a text, not a picture", "not an image"), (None, "damaged or cut short")],
    ids=["zero bytes", "not an image", "truncated"],
)
def test_an_unreadable_image(
    attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path, content: bytes | None, expected: str
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pair[0].read_bytes()[:200] if content is None else content)
    code, said = attempt(broken, pair[1], "--out", tmp_path / "out.png")
    assert code == 2 and "broken.png" in said and expected in said


def test_a_single_pixel(attempt: Attempt, tmp_path: Path) -> None:
    paths = image(tmp_path / "v.png", (1, 1, 3)), image(tmp_path / "i.png", (1, 1))
    code, said = attempt(*paths, "--out", tmp_path / "out.png")
    assert code == 2 and "at least 8" in said


def test_a_decompression_bomb_is_refused_from_its_header(
    attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    code, said = attempt(bomb(tmp_path / "bomb.png"), pair[1], "--out", tmp_path / "out.png")
    assert code == 2 and "bomb.png" in said and ("limit" in said or "exceeds" in said)


def test_an_animation(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((24, 32), value, dtype=np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:])
    code, said = attempt(tmp_path / "film.webp", pair[1], "--out", tmp_path / "out.png")
    assert code == 2 and "animated" in said


@pytest.mark.parametrize("out", ["no/such/folder/f.png", "f.xyz", "vi"])
def test_an_output_that_cannot_be(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path, out: str) -> None:
    code, said = attempt(*pair, "--out", tmp_path / out)
    assert code == 2 and str(tmp_path / out) in said


def test_an_output_under_a_file(attempt: Attempt, pair: tuple[Path, Path]) -> None:
    code, said = attempt(*pair, "--out", pair[0] / "f.png")
    assert code == 2 and "not a folder" in said


@pytest.mark.parametrize("content", ["nothing", "a picture", "another format"])
def test_weights_that_are_none(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path, content: str) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    if content == "a picture":
        (folder / "config.json").write_bytes(pair[0].read_bytes())
    if content == "another format":
        (folder / "config.json").write_text('{"architectures": ["Other"]}')
    code, said = attempt(*pair, "--out", tmp_path / "out.png", "--weights", folder)
    assert code == 2 and str(folder) in said


def test_weights_nobody_knows(attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = attempt(*pair, "--out", tmp_path / "out.png", "--weights", "no-such-thing")
    assert code == 2 and "no-such-thing" in said


def test_a_store_of_another_schema_version(attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text('{"schema_version": 999}')
    code, said = attempt("--store", tmp_path / "store", command="train-teacher")
    assert code == 2 and "999" in said


def test_names_with_spaces_and_other_alphabets_work(
    pair: tuple[Path, Path], tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "mit Leerzeichen — 夜 é"
    odd.mkdir()
    visible, infrared = odd / "sicht bar.png", odd / "wärme.png"
    visible.write_bytes(pair[0].read_bytes())
    infrared.write_bytes(pair[1].read_bytes())
    out = odd / "fusión.png"
    words = ["fusioncli", "fuse", str(visible), str(infrared), "--out", str(out), "--weights", str(weights)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as leave:
        cli.main()
    assert not leave.value.code and Image.open(out).size == (32, 24)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, weights: Path) -> None:
    paths = image(tmp_path / "v.png", (200, 200, 3)), image(tmp_path / "i.png", (200, 200))

    def no_more_than_4_kib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    before = set(tmp_path.iterdir())
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); import cli; cli.main()",
            "fuse",
            *map(str, paths),
            "--out",
            str(tmp_path / "f.png"),
            "--weights",
            str(weights),
        ],
        cwd=REPOSITORY,
        preexec_fn=no_more_than_4_kib,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("fusioncli: ") and done.stderr.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("which", [0, 1])
def test_an_output_that_is_one_of_the_images(attempt: Attempt, pair: tuple[Path, Path], which: int) -> None:
    own = pair[which]
    content = own.read_bytes()
    code, said = attempt(*pair, "--out", own.parent / ".." / own.parent.name / own.name)
    assert code == 2 and "one of the images to be fused" in said
    assert own.read_bytes() == content


@pytest.mark.parametrize("device", ["foo", "meta", "hpu", "cuda:99"])
@pytest.mark.parametrize("command", ["fuse", "score", "bench"])
def test_a_device_that_is_not_there(
    attempt: Attempt, pair: tuple[Path, Path], tmp_path: Path, device: str, command: str
) -> None:
    words = {
        "fuse": (*pair, "--out", tmp_path / "out.png"),
        "score": (*pair, pair[1]),
        "bench": ("--dataset", "synthetic", "--out", tmp_path / "out"),
    }[command]
    code, said = attempt(*words, "--device", device, command=command)
    assert code == 2 and f"--device {device}: not a device" in said


def test_more_pixels_a_side_than_the_format_holds(attempt: Attempt, tmp_path: Path) -> None:
    wide = image(tmp_path / "v.png", (8, 17000, 3)), image(tmp_path / "i.png", (8, 17000))
    code, said = attempt(*wide, "--align", "none", "--out", tmp_path / "out.webp")
    assert code == 2 and "out.webp: WEBP holds 16383 pixels a side" in said


@pytest.mark.parametrize("name", ["../precious", "a/b", "..", "a\\b"])
def test_a_method_of_a_benchmark_cannot_name_a_folder_elsewhere(attempt: Attempt, tmp_path: Path, name: str) -> None:
    pairs = tmp_path / "data" / "synthetic"
    image(pairs / "vi" / "test-0.png", (48, 48, 3))
    image(pairs / "ir" / "test-0.png", (48, 48))
    words = ("--dataset", "synthetic", "--root", tmp_path / "data", "--out", tmp_path / "out", "--no-cost")
    code, said = attempt(*words, "--method", f"{name}=nano", command="bench")
    assert code == 2 and "leave out / and" in said
