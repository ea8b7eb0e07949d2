"""Prompt, schema, vocabulary and weights come from one file and agree with each other."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import ManifestError
from pipeline.task_file import load_task, parse_task
from pipeline.tasks import LossWeights, Task

# intensity, consistency, gradient, ssim, colour: the method's table
WEIGHTS = {
    "ivf": {
        "low_light": (48, 20, 48, 2, 12),
        "over_exposure": (32, 60, 48, 2, 12),
        "low_contrast": (40, 40, 48, 2, 12),
        "infrared_noise": (32, 60, 48, 2, 12),
        "motion_blur": (32, 40, 72, 2, 12),
        "sensor_artifact": (24, 80, 96, 2, 12),
        "high_noise": (32, 80, 72, 2, 12),
        "clean": (24, 40, 48, 2, 12),
    },
    "medical": {
        "contrast_enhancement": (40, 60, 96, 4, 12),
        "edge_preservation": (48, 80, 72, 2, 12),
        "noise_suppression": (32, 100, 72, 4, 12),
        "detail_enhancement": (40, 80, 96, 2, 12),
        "structure_consistency": (48, 100, 72, 8, 12),
        "artifact_reduction": (32, 120, 96, 6, 12),
        "clean": (40, 80, 72, 4, 12),
    },
}


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_are_the_methods(name: str) -> None:
    task = load_task(name)
    assert {label: tuple(event.weights.as_dict().values()) for label, event in task.events.items()} == WEIGHTS[name]


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_prompt_schema_and_parser_speak_of_the_same_labels(name: str) -> None:
    task = load_task(name)
    for label in task.labels():
        assert f"- {label}:" in task.prompt()
        assert task.find_label(label.replace("_", " ").upper()) == label
    for modality in task.modalities:
        item = task.schema()["properties"][modality]["items"]  # type: ignore[index]
        assert item["properties"]["type"]["enum"] == list(task.labels(modality))
        assert task.default in item["properties"]["type"]["enum"]
    assert "{" not in task.prompt().split("of this form")[0]
    assert "pattern" not in json.dumps(task.schema())


def test_the_schema_names_the_images_of_the_data_set() -> None:
    task = load_task("medical").between("spect", "mri")
    assert task.schema()["required"] == ["scene", "spect", "mri"]
    assert "first is the spect image, the second is the mri image" in task.prompt()


def test_images_of_other_names_keep_the_labels_that_are_theirs_alone() -> None:
    known, task = load_task("ivf"), load_task("ivf").between("rgb", "thermal")
    assert task.labels("rgb") == known.labels("visible") and "low_light" in task.labels("rgb")
    assert task.labels("thermal") == known.labels("infrared") and "infrared_noise" in task.labels("thermal")
    assert task.find_label("noise", "thermal") == "infrared_noise"
    assert "(only the thermal image)" in task.prompt()


def test_weights_of_several_events_are_their_mean() -> None:
    task = load_task("ivf")
    expected = LossWeights(intensity=40, consistency=50, gradient=60, ssim=2, colour=12)
    assert task.weights_for(["low_light", "high_noise"]) == expected
    assert task.weights_for(["low_light", "clean", "high_noise", "comet"]) == expected
    for nothing_known in ([], ["clean"], ["comet"]):
        assert task.weights_for(nothing_known) == task.events["clean"].weights


GOOD = b"""
name: t
title: t
modalities: [a, b]
default: clean
severities: {slight: x}
events:
  clean: {meaning: m, weights: {intensity: 1, consistency: 1, gradient: 1, ssim: 1, colour: 1}}
prompt: hello
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"default: clean", b"default: dirty", "'dirty' is not among the events"),
        (b"meaning: m", b"meanings: m", "did you mean 'meaning'"),
        (b"ssim: 1, ", b"", "missing ssim"),
        (b"ssim: 1", b"ssim: -1", "expected a number"),
        (b"  clean: {", b"  Not A Label: {", "lower case"),
        (b"prompt: hello", b"prompt: 'hello {thing}'", "thing"),
        (b"prompt: hello", b"prompt: [", "YAML"),
        (b"[a, b]", b"[a]", "two images"),
        (b"[a, b]", b"ab", "modalities is 'ab', expected a list"),
        (b"[a, b]", b"[1, 2]", "modalities is .1, 2., expected a list"),
        (b"default: clean", b"default: [clean]", "default is .*expected a text"),
        (b"prompt: hello", b"prompt: 5", "prompt is 5, expected a text"),
        (b"meaning: m", b"meaning: no", "meaning is False, expected a text"),
        (b"ssim: 1", b"ssim: .nan", "weight ssim is nan"),
        (b"ssim: 1", b"ssim: .inf", "weight ssim is inf"),
        (b"meaning: m", b"meaning: m, aliases: dark", "aliases is 'dark', expected a list"),
        (b"severities: {", b"severities: {1: one, ", "severities: 1 is 'one', expected a text"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(old: bytes, new: bytes, message: str) -> None:
    assert isinstance(parse_task(GOOD, source="good.yaml"), Task)
    with pytest.raises(ManifestError, match=message) as caught:
        parse_task(GOOD.replace(old, new), source="odd.yaml")
    assert "odd.yaml" in str(caught.value)


ONE = b"{meaning: m, modalities: [a], aliases: [speck], weights: {intensity: 1, consistency: 1, gradient: 1, ssim: 1, colour: 1}}"


def test_labels_share_an_alias_where_no_image_may_have_both() -> None:
    def with_other(other: bytes) -> Task:
        return parse_task(
            GOOD.replace(b"prompt:", b"  one: " + ONE + b"\n  two: " + other + b"\nprompt:"), source="t.yaml"
        )

    task = with_other(ONE.replace(b"[a]", b"[b]"))
    assert [task.find_label("Speck", modality) for modality in ("a", "b")] == ["one", "two"]
    assert [task.find_label("one", modality) for modality in ("a", "b", None)] == ["one", "one", "one"]
    assert task.find_label("fleck", "a") is None
    for overlapping in (ONE, ONE.replace(b"[a]", b"[b, a]"), ONE.replace(b"[a]", b"[]")):
        with pytest.raises(ManifestError, match=r"t\.yaml: 'speck' is an alias of 'one' and of 'two'"):
            with_other(overlapping)
    with pytest.raises(ManifestError, match="'SPECK' is an alias of 'one' and of 'two'"):
        with_other(ONE.replace(b"speck", b"SPECK"))


def test_an_unknown_task_names_the_closest() -> None:
    with pytest.raises(ManifestError, match="did you mean 'medical'"):
        load_task("medicl")


def test_another_name_of_an_image_means_one_image() -> None:
    task = parse_task(GOOD + b"\nalso_called: {a: [First View, f], c: [see]}\n", source="t.yaml")
    assert [task.find_modality(text) for text in ("A", "first-view image", "F", "b", "see", "")] == [
        "a",
        "a",
        "a",
        "b",
        None,
        None,
    ]
    assert task.between("c", "b").find_modality("see") == "c"
    for twice in (b"{a: [f], b: [F]}", b"{a: [b], b: []}", b"{a: [a]}"):
        with pytest.raises(ManifestError, match=r"t\.yaml: also_called: '[abf]' stands there twice"):
            parse_task(GOOD + b"\nalso_called: " + twice + b"\n", source="t.yaml")
    for wrong, message in (
        (b"[a]", "expected a mapping, found list"),
        (b"{a: b}", "a is 'b', expected a list of texts"),
    ):
        with pytest.raises(ManifestError, match=rf"t\.yaml: also_called: {message}"):
            parse_task(GOOD + b"\nalso_called: " + wrong + b"\n", source="t.yaml")
