"""Every kind of fused folder that does not fit, as a user meets it: one sentence, exit code 2, no traceback, no work done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STEMS = tuple(f"test-{index}" for index in range(8))
HEIGHT, WIDTH = 48, 56


def noise(seed: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, *channels), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pairs laid out as the data set ``synthetic`` and a folder of coloured fused images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder, seed, channels in (("synthetic/vi", 0, (3,)), ("synthetic/ir", 100, ()), ("fused", 200, (3,))):
        (tmp_path / folder).mkdir(parents=True)
        for index, stem in enumerate(STEMS):
            Image.fromarray(noise(seed + index, *channels)).save(tmp_path / folder / f"{stem}.png")
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """The command line as it is installed, in this process: its exit code and what it writes to standard error."""
    import cli

    monkeypatch.setattr("sys.argv", ["fusioncli", "--quiet", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().err


def smaller(folder: Path) -> None:
    for stem in STEMS[:7]:
        Image.fromarray(noise(1, 3)[:40]).save(folder / f"{stem}.png")


def missing(folder: Path) -> None:
    for stem in STEMS[:7]:
        (folder / f"{stem}.png").unlink()


def extra(folder: Path) -> None:
    for index in range(7):
        Image.fromarray(noise(index, 3)).save(folder / f"holiday-{index}.png")


def grey(folder: Path) -> None:
    for stem in STEMS[:7]:
        Image.fromarray(noise(1)).save(folder / f"{stem}.png")


def sixteen_bit(folder: Path) -> None:
    for stem in STEMS[:7]:
        Image.fromarray(noise(1).astype(np.uint16) * 257).save(folder / f"{stem}.png")


def alpha(folder: Path) -> None:
    for stem in STEMS[:7]:
        Image.fromarray(noise(1, 4)).save(folder / f"{stem}.png")


def transparent_palette(folder: Path) -> None:
    for stem in STEMS[:7]:
        Image.fromarray(noise(1, 3)).quantize(16).save(folder / f"{stem}.png", transparency=0)


def animated(folder: Path) -> None:
    frames = [Image.fromarray(noise(index, 3)) for index in range(2)]
    for stem in STEMS[:7]:
        frames[0].save(folder / f"{stem}.png", save_all=True, append_images=frames[1:])


def damaged(folder: Path) -> None:
    for stem in STEMS[:7]:
        (folder / f"{stem}.png").write_bytes(b"GIF, or so")


def renamed(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"fused_{path.name}"))


FAULTS: dict[Callable[[Path], None], tuple[str, str]] = {
    smaller: ("7 problems", "56 x 40"),
    missing: ("7 ", "test-0"),
    extra: ("7 ", "holiday-0"),
    grey: ("7 problems", "is grey"),
    sixteen_bit: ("7 problems", "16-bit"),
    alpha: ("7 problems", "alpha channel"),
    transparent_palette: ("7 problems", "alpha channel"),
    animated: ("7 problems", "animated"),
    damaged: ("7 problems", "not an image"),
    renamed: ("8", "fused_test-0"),
}


@pytest.mark.parametrize("command", ["score", "bench"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_does_not_fit_is_one_sentence_with_the_first_few_and_the_count(
    root: Path,
    command: str,
    fault: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    fault(root / "fused")
    home = root / "synthetic"
    words: list[str | Path] = ["score", home / "vi", home / "ir", root / "fused"]
    if command == "bench":
        words = ["bench", "--dataset", "synthetic", "--root", root, "--method", f"ours={root / 'fused'}"]
        words += ["--out", root / "out", "--no-cost"]
    words += ["--metrics", "EN,DeltaE" if fault is grey else "EN"]
    code, said = call(monkeypatch, capsys, *words)
    assert code == 2
    assert said.startswith("fusioncli: ") and said.count("\n") == 1
    for part in FAULTS[fault]:
        assert part in said
    assert said.count(".png") <= 12  # the first few, not all
    assert not (root / "out").exists()


def test_grey_fused_images_are_scored_where_colour_does_not_count(root: Path) -> None:
    from fusion.scoring import score_files

    grey(root / "fused")
    card = score_files(root / "synthetic/vi", root / "synthetic/ir", root / "fused", names=["EN"])
    assert card.undefined("EN") == 0
