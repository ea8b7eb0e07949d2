"""``fusioncli score`` on files and folders: the answer, the table, bad input, remembered scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion.metrics import CONVENTIONS, DEFAULT_NAMES
from fusion.score import names_in, score
from fusion.score_cache import ScoreCache, code_digest
from fusion.scorecard import Scorecard, check_files, find_files
from fusion.scoring import score_files
from pipeline.errors import ImageError, InputError, PairingError

Run = Callable[..., "object"]


def picture(seed: int, size: tuple[int, ...] = (48, 56)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Three pairs with fused images: vi (colour), ir, fused, some under other file types."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    homes = tmp_path / "vi", tmp_path / "ir", tmp_path / "fused"
    for home in homes:
        home.mkdir()
    for n in range(3):
        Image.fromarray(picture(n, (48, 56, 3))).save(homes[0] / f"{n:03}.webp", lossless=True)
        Image.fromarray(picture(10 + n)).save(homes[1] / f"{n:03}.png")
        Image.fromarray(picture(20 + n, (48, 56, 3))).save(homes[2] / f"{n:03}.png")
    return homes


def test_folders_are_scored_by_stem(folders: tuple[Path, Path, Path]) -> None:
    card = score_files(*folders, names=["EN", "VIF", "MS-SSIM"])
    expected = score(picture(1, (48, 56, 3)), picture(11), picture(21, (48, 56, 3)), names=["EN", "VIF", "MS-SSIM"])
    assert card.images["001"] == expected
    answer = card.as_json()
    assert answer["convention"] == "standard" and answer["n"] == 3 and answer["missing"] == 0
    assert answer["mean"]["MS-SSIM"] is None and answer["undefined"] == {"MS-SSIM": 3}  # type: ignore[index]
    mean = sum(scores["EN"] for scores in card.images.values()) / 3  # type: ignore[misc]
    assert card.mean("EN") == pytest.approx(mean)


def test_an_undefined_value_is_no_part_of_a_mean() -> None:
    card = Scorecard(convention="standard", names=("CC",), images={"a": {"CC": 0.5}, "b": {"CC": None}})
    assert card.mean("CC") == 0.5 and card.undefined("CC") == 1


def test_the_command_prints_and_writes(fusioncli: Run, folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    done = fusioncli("score", *folders, "--convention", "zoo", "--metrics", "EN,NMI", "--json", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert "convention zoo" in done.stdout and "NMI" in done.stdout  # type: ignore[attr-defined]
    answer = json.loads((tmp_path / "s.json").read_text())
    assert answer["convention"] == "zoo" and set(answer["mean"]) == {"EN", "NMI"}
    assert [image["name"] for image in answer["images"]] == ["000", "001", "002"]
    files = [folder / name for folder, name in zip(folders, ("001.webp", "001.png", "001.png"), strict=True)]
    done = fusioncli("--quiet", "score", *files, "--metrics", "EN,NMI", "--convention", "zoo", "--json", "-")
    assert json.loads(done.stdout)["images"][0] == answer["images"][1]  # type: ignore[attr-defined]
    done = fusioncli("score", *folders, "--convention", "standart")
    assert done.returncode == 2 and "did you mean 'standard'" in done.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in done.stderr  # type: ignore[attr-defined]


def test_missing_and_extra_files_are_listed_or_counted(folders: tuple[Path, Path, Path]) -> None:
    (folders[2] / "002.png").unlink()
    Image.fromarray(picture(9)).save(folders[2] / "stray.png")
    with pytest.raises(PairingError, match=r"2 stems not in all three folders: 002 .*fused.*stray .*--allow-missing"):
        find_files(*folders)
    files, missing = find_files(*folders, allow_missing=True)
    assert [file.name for file in files] == ["000", "001"] and missing == 2
    assert score_files(*folders, names=["EN"], allow_missing=True).as_json()["missing"] == 2


def test_names_that_do_not_overlap(folders: tuple[Path, Path, Path]) -> None:
    for path in list(folders[2].iterdir()):
        path.rename(path.with_name("fused_" + path.name))
    with pytest.raises(PairingError, match="no stem is in all three folders"):
        find_files(*folders, allow_missing=True)


def test_all_misfits_are_in_one_error(folders: tuple[Path, Path, Path]) -> None:
    Image.fromarray(picture(1, (40, 56))).save(folders[2] / "000.png")
    Image.fromarray(picture(1).astype(np.uint16) * 257).save(folders[1] / "001.png")
    Image.fromarray(picture(1, (48, 56, 4))).save(folders[2] / "002.png")
    with pytest.raises(ImageError) as caught:
        check_files(find_files(*folders)[0])
    text = str(caught.value)
    assert "3 problems" in text and "16-bit" in text and "alpha" in text and "56 x 40" in text


def test_other_bad_input(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_files(folders[0], folders[1], tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a mixture"):
        find_files(folders[0], folders[1], folders[2] / "001.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        find_files(folders[0], folders[1], tmp_path / "empty")
    with pytest.raises(ImageError, match="expected to be grey"):
        score_files(folders[1], folders[0], folders[2], names=["EN"])
    frames = [Image.fromarray(picture(n)) for n in range(2)]
    frames[0].save(folders[2] / "000.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"000\.png.*animated"):
        score_files(*folders, names=["EN"])
    (folders[2] / "000.jpg").write_bytes(b"")
    with pytest.raises(PairingError, match="same stem"):
        find_files(*folders)


def test_scores_are_remembered_by_content(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score_files(*folders, names=["EN"])
    (folders[2] / "000.png").rename(folders[2] / "keep")
    (folders[2] / "keep").rename(folders[2] / "000.png")

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    with monkeypatch.context() as patch:
        patch.setattr("fusion.scoring.score_fused", refuse)
        assert score_files(*folders, names=["EN"]).images == first.images
        with pytest.raises(AssertionError):
            score_files(*folders, names=["EN"], cached=False)
        with pytest.raises(AssertionError):
            score_files(*folders, names=["EN"], convention="zoo")
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text("{broken")
    assert score_files(*folders, names=["EN"]).images == first.images
    Image.fromarray(picture(99)).save(folders[2] / "000.png")
    assert score_files(*folders, names=["EN"]).images["000"] != first.images["000"]


def test_scores_are_remembered_under_all_that_decides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ScoreCache(tmp_path)
    keys = {
        cache.key(files, convention)
        for files in ([b"a", b"b", b"c"], [b"b", b"a", b"c"], [b"a", b"b", b"d"], [b"ab", b"", b"c"])
        for convention in ("standard", "zoo")
    }
    assert len(keys) == 8 and cache.key([b"a", b"b", b"c"], "zoo") in keys
    monkeypatch.setattr("fusion.score_cache.code_digest", lambda: "another version of the metrics")
    assert cache.key([b"a", b"b", b"c"], "zoo") not in keys


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ScoreCache(tmp_path / "file")
    cache.save("ab" * 32, {"EN": 1.0})
    assert cache.load("ab" * 32) == {} and not cache.writable
    assert len(code_digest()) == 64


def test_metrics_may_be_named_in_groups() -> None:
    usual = names_in("usual, DeltaE-lit,EN", "standard")
    assert usual == (*DEFAULT_NAMES, "DeltaE-lit")
    assert set(names_in("all", "zoo") or ()) == set(CONVENTIONS["zoo"].functions)
    assert names_in(None, "zoo") is None
    with pytest.raises(InputError, match="no name in it"):
        names_in(" , ", "standard")


def test_boxes_add_what_targets_keep(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    infrared = np.full((48, 56), 40, dtype=np.uint8)
    infrared[12:36, 14:42] = 200
    for n in range(3):
        Image.fromarray(np.full((48, 56), 40, dtype=np.uint8)).save(folders[0] / f"{n:03}.webp", lossless=True)
        Image.fromarray(infrared).save(folders[1] / f"{n:03}.png")
        Image.fromarray((infrared // (n + 1)).astype(np.uint8)).save(folders[2] / f"{n:03}.png")
        (labels / f"{n:03}.txt").write_text("0 0.5 0.5 0.5 0.5\n" if n < 2 else "")
    card = score_files(*folders, names=["EN"], boxes=labels)
    assert card.images["000"]["Target-brightness"] == pytest.approx(1)
    assert card.images["001"]["Target-level"] == pytest.approx(100)
    assert card.images["001"]["Target-contrast"] == pytest.approx(0.5)
    assert card.images["002"]["Target-contrast"] is None and card.undefined("Target-contrast") == 1
    (labels / "000.txt").write_text("0 0.5 half 0.5 0.5\n")
    with pytest.raises(InputError, match=r"000\.txt, line 1"):
        score_files(*folders, names=["EN"], boxes=labels)
    (labels / "000.txt").unlink()
    (labels / "002.txt").unlink()
    with monkeypatch.context() as patched:
        patched.setattr("fusion.scoring._score_file", lambda *_: pytest.fail("work began"))
        with pytest.raises(InputError, match=r"2 problems: .*000\.txt: no such label file.*; .*002\.txt"):
            score_files(*folders, names=["EN"], boxes=labels)
        with pytest.raises(InputError, match="--boxes .*nowhere: no such folder of label files"):
            score_files(*folders, names=["EN"], boxes=labels / "nowhere")


def test_a_phones_photo_with_a_preview_is_one_image(folders: tuple[Path, Path, Path]) -> None:
    """The format MPO, with the suffix .jpg; `fuse` and `bench` read it too."""
    photo = Image.fromarray(picture(1, (48, 56, 3)))
    (folders[0] / "001.webp").unlink()
    photo.save(folders[0] / "001.jpg", format="MPO", save_all=True, append_images=[photo.resize((28, 24))])
    assert Image.open(folders[0] / "001.jpg").n_frames == 2
    assert score_files(*folders, names=["EN", "CC"]).images["001"]["CC"] is not None
