"""Manifests: nine data sets, fixed splits that cannot be edited unnoticed, clear words for a wrong file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import manifest as module
from pipeline.errors import ManifestError
from pipeline.manifest import load_manifest, manifest_names, members_digest, parse_manifest
from pipeline.task_file import task_names

NAMES = {
    "msrs", "m3fd", "roadscene", "tno", "llvip", "harvard-ct-mri", "harvard-pet-mri", "harvard-spect-mri", "synthetic",
}  # fmt: skip
GOOD = """
title: x
folder: x
task: ivf
modalities: [{name: visible, channels: 3}, {name: infrared, channels: 1}]
splits: {train: {folders: {visible: vi, infrared: ir}}}
homepage: ''
terms: ''
citation: ''
"""


def changed(change: dict[str, Any]) -> str:
    """The good example with other values; None leaves a key out."""
    raw = yaml.safe_load(GOOD) | change
    return yaml.safe_dump({key: value for key, value in raw.items() if value is not None})


def test_there_are_the_nine_data_sets() -> None:
    assert set(manifest_names()) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_manifest_says_what_a_user_needs(name: str) -> None:
    found = load_manifest(name)
    assert found.name == name
    assert found.task in task_names()
    assert [entry.channels for entry in found.modalities] == [3, 1]
    assert set(found.splits) == {"train", "test"}
    assert found.title and found.terms and found.citation
    assert found.homepage.startswith("https://") or name == "synthetic"
    assert all(set(split.folders) == set(found.names) for split in found.splits.values())


@pytest.mark.parametrize(("name", "total", "held_out"), [("roadscene", 221, 44), ("tno", 25, 5), ("m3fd", 8, 2)])
def test_a_split_file_parts_all_pairs_without_overlap(name: str, total: int, held_out: int) -> None:
    train, test = (load_manifest(name).splits[split].members or frozenset() for split in ("train", "test"))
    assert len(test) == held_out
    assert len(train | test) == total == len(train) + len(test)


def test_pairs_of_one_scene_lie_on_one_side() -> None:
    scenes = {
        "m3fd": [{"00000", "00002", "00005"}],
        "tno": [{"03", "04"}, {"12", "13", "15", "16"}, {"01", "22"}, {"02", "23"}],
        "roadscene": [
            {"FLIR_09465", "FLIR_video_02829"}, {"FLIR_06099", "FLIR_06128"}, {"FLIR_07119", "FLIR_07125"},
            {"FLIR_09437", "FLIR_video_02223"}, {"FLIR_04997", "FLIR_05005", "FLIR_05016", "FLIR_05027"},
            {"FLIR_07968", "FLIR_07970"}, {"FLIR_08202", "FLIR_08220", "FLIR_08248"},
        ],
    }  # fmt: skip
    for name, groups in scenes.items():
        train, test = (load_manifest(name).splits[split].members or frozenset() for split in ("train", "test"))
        for group in groups:
            assert group <= test or group <= train, (name, group)


def test_an_edited_split_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._split_text
    monkeypatch.setattr(module, "_split_text", lambda file: real(file).replace("  - '07'\n", "", 1))
    with pytest.raises(ManifestError, match=r"splits/tno-v2.yaml.*sha256"):
        load_manifest("tno")


def test_the_digest_of_a_split_knows_sides_but_not_order() -> None:
    one = members_digest({"train": ["a", "b"], "test": ["c"]})
    assert one == members_digest({"test": ["c"], "train": ["b", "a"]})
    assert one != members_digest({"train": ["a"], "test": ["b", "c"]})


def test_the_manifest_digest_is_of_what_decides_the_pairs() -> None:
    read = parse_manifest("x", GOOD)
    for told in ({"title": "y"}, {"terms": "all rights reserved"}, {"citation": "z"}, {"homepage": "h"}):
        assert parse_manifest("x", changed(told)).digest == read.digest, told
    assert parse_manifest("x", GOOD + "# a comment\n").digest == read.digest
    folders = {"visible": "vi", "infrared": "ir"}
    deciding: list[dict[str, Any]] = [
        {"folder": "elsewhere"},
        {"task": "medical"},
        {"modalities": [{"name": "visible", "channels": 1}, {"name": "infrared", "channels": 1}]},
        {"splits": {"train": {"folders": {**folders, "visible": "v"}}}},
        {"splits": {"train": {"folders": folders, "stems": "a*"}}},
        {"splits": {"test": {"folders": folders}}},
    ]
    others = [parse_manifest("x", changed(change)).digest for change in deciding]
    assert len({read.digest, *others}) == 1 + len(deciding)


def test_the_manifest_digest_changes_with_the_stems_of_a_split() -> None:
    def listing(train: list[str]) -> str:
        members = {"train": train, "test": ["c"]}
        return yaml.safe_dump({**members, "sha256": members_digest(members)})

    folders = {"visible": "vi", "infrared": "ir"}
    text = changed({"splits": {"train": {"folders": folders, "file": "s.yaml"}}})
    one, other = (parse_manifest("x", text, lambda file, stems=stems: listing(stems)) for stems in (["a"], ["a", "b"]))
    assert one.digest != other.digest


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(ManifestError, match=r"did you mean 'roadscene'"):
        load_manifest("roadscenes")


def test_the_good_example_is_good() -> None:
    assert parse_manifest("x", GOOD).splits["train"].members is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tittle": "x"}, r"unknown key 'tittle' \(did you mean 'title'"),
        ({"title": None}, "the key 'title' is missing"),
        ({"folder": "../elsewhere"}, "leaves the data folder"),
        ({"folder": "/etc"}, "leaves the data folder"),
        ({"modalities": [{"name": "visible", "channels": 3}]}, "must list two"),
        ({"modalities": [{"name": "a", "channels": 3}, {"name": "b", "channels": 2}]}, "'channels' of 1 or 3"),
        ({"splits": []}, "'splits' must map"),
        ({"splits": {"train": {"folders": {"visible": "vi"}}}}, "must name one for each"),
        ({"splits": {"train": {"folders": {"visible": "a", "infrared": "b"}, "fil": "x"}}}, "did you mean 'file'"),
        (
            {"modalities": [{"name": "near visible", "channels": 3}, {"name": "b", "channels": 1}]},
            "'near visible': letters",
        ),
        (
            {"modalities": [{"name": "a", "channels": 3}, {"name": "a", "channels": 1}]},
            "both modalities are called 'a'",
        ),
        (
            {"splits": {"train": {"folders": {"visible": "vi", "infrared": "vi/"}}}},
            "both modalities name the folder vi",
        ),
        ({"splits": {5: {"folders": {"visible": "a", "infrared": "b"}}}}, "split 5: .* put it in quotes"),
        ({"splits": {"a": {"folders": {"visible": "a", "infrared": 3}}}}, "the path 3 .* put it in quotes"),
        ({"splits": {"a": {"folders": {"visible": "a", "infrared": "b"}, "stems": 5}}}, "'stems' is 5"),
        ({"splits": {"a": {"folders": {"visible": "a", "infrared": "b"}, "expected": "many"}}}, "'expected' is 'many'"),
        ({"splits": {"a": {"folders": {"visible": "a", "infrared": "b"}, "expected": 1.5}}}, "'expected' is 1.5"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_key(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ManifestError, match=complaint):
        parse_manifest("x", changed(change))


def test_words_left_empty_are_empty() -> None:
    raw = yaml.safe_load(GOOD) | {"title": None, "terms": None, "citation": None, "homepage": None}
    found = parse_manifest("x", yaml.safe_dump(raw))
    assert (found.title, found.terms, found.citation, found.homepage) == ("x", "", "", "")


def test_what_is_not_yaml_is_said_to_be_so() -> None:
    with pytest.raises(ManifestError, match="not valid YAML"):
        parse_manifest("x", "a: [")
    with pytest.raises(ManifestError, match="is a mapping"):
        parse_manifest("x", "just words")


def test_members_are_where_the_data_is(data_root: Path) -> None:
    for name in ("roadscene", "tno", "m3fd"):
        found = load_manifest(name)
        stems = {path.stem for path in (data_root / found.folder / "vi").iterdir()}
        assert stems == set().union(*(split.members or set() for split in found.splits.values()))


def test_a_path_to_a_manifest_works_where_a_name_does(tmp_path: Path) -> None:
    """Its data set is called as the file is; the split files it names lie beside it."""
    members = {"train": ["a", "b"], "test": ["c"]}
    (tmp_path / "parts.yaml").write_text(yaml.safe_dump({**members, "sha256": members_digest(members)}))
    text = GOOD.replace("infrared: ir}}}", "infrared: ir}, file: parts.yaml}}")
    (tmp_path / "my-set.yaml").write_text(text)
    found = load_manifest(str(tmp_path / "my-set.yaml"))
    assert found.name == "my-set" and found.splits["train"].members == {"a", "b"}
    for content in ("- 1\n", "train: 3\n", "train: [a]\n"):
        (tmp_path / "parts.yaml").write_text(content)
        with pytest.raises(ManifestError, match="a split file lists the stems"):
            load_manifest(str(tmp_path / "my-set.yaml"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.yaml", "cannot be read"),
        ("my set.yaml", "letters, digits"),
        ("msrs.yaml", "known already"),
        ("tasks.yaml", r"tasks.yaml: no task 'ivff' \(did you mean 'ivf'\?\)"),
    ],
)
def test_a_manifest_of_ones_own_that_cannot_be(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "msrs.yaml").write_text(GOOD)
    (tmp_path / "tasks.yaml").write_text(GOOD.replace("task: ivf", "task: ivff"))
    with pytest.raises(ManifestError, match=said):
        load_manifest(str(tmp_path / name))
