"""Which image of a pair an event is said of, and which label follows from that."""

from __future__ import annotations

import json

import pytest

from pipeline.answers import parse_caption
from pipeline.task_file import load_task

IVF = load_task("ivf")


def test_free_text_gets_a_modality_only_where_it_follows() -> None:
    text = "Event Type: Low Light\nEvent Type: Motion blur\nDescription: the infrared image\nEvent Type: Motion Blur"
    assert [event.modality for event in parse_caption(text, IVF).events] == ["visible", "infrared", None]


@pytest.mark.parametrize("word", ["noise", "Grain", "graininess", "Gaussian noise", "noise."])
def test_noise_is_that_of_the_image_it_is_said_of(word: str) -> None:
    for said in (word, [{"type": word}]):
        answer = json.dumps({"visible": said, "infrared": said})
        assert [(event.modality, event.type) for event in parse_caption(answer, IVF).events] == [
            ("visible", "high_noise"),
            ("infrared", "infrared_noise"),
        ]
    lines = {
        "Description: The infrared image is covered by grain.": ("infrared", "infrared_noise"),
        "Description: Strong grain is visible in the infrared image.": ("infrared", "infrared_noise"),
        "Description: Grain all over, most of it in infrared.": ("infrared", "infrared_noise"),
        "Description: grain\nModality: infrared": ("infrared", "infrared_noise"),
        "Description: worse than the visible image\nModality: infrared": ("infrared", "infrared_noise"),
        "Description: The visible image is covered by grain.": ("visible", "high_noise"),
        "Description: grain\nModality: visible": ("visible", "high_noise"),
        "Description: Grain all over, most of it in the thermal image.": ("infrared", "infrared_noise"),
        "Description: The RGB image is covered by grain.": ("visible", "high_noise"),
        "Description: grain\nModality: IR": ("infrared", "infrared_noise"),
        "Description: grain\nModality: thermal image": ("infrared", "infrared_noise"),
        "Description: of the visible image, while the infrared image is clean": ("visible", "high_noise"),
        "Description: in the visible or the infrared image": ("visible", "high_noise"),
        "Description: grain": ("visible", "high_noise"),
    }
    for rest, expected in lines.items():
        (event,) = parse_caption(f"Event Type: {word}\n{rest}", IVF).events
        assert (event.modality, event.type) == expected, rest


@pytest.mark.parametrize(
    "said",
    [
        "both images are grainy",
        "Both the images.",
        "grain in the visible and the infrared image",
        "grain in the visible image and in the thermal image",
        "infrared and visible images",
    ],
)
def test_what_is_said_of_both_images_is_said_of_each(said: str) -> None:
    events = parse_caption(f"Event Type: Noise\nDescription: {said}\nEvent Type: dark\nDescription: {said}", IVF).events
    assert [(event.modality, event.type) for event in events] == [
        ("visible", "high_noise"),
        ("infrared", "infrared_noise"),
        ("visible", "low_light"),
    ]
    (one, other) = parse_caption(f"Event Type: blur\nDescription: {said}", IVF).events
    assert (one.modality, other.modality) == ("visible", "infrared")


def test_an_answer_may_call_the_images_by_their_other_names() -> None:
    answer = {"RGB image": "dark", "Thermal": [{"type": "noise"}], "scene": "a road"}
    caption = parse_caption(json.dumps(answer), IVF)
    assert [(event.modality, event.type) for event in caption.events] == [
        ("visible", "low_light"),
        ("infrared", "infrared_noise"),
    ]
    assert caption.scene == "a road"
    scans = load_task("medical").between("pet", "mri")
    said = parse_caption(json.dumps({"PET": "noise", "MR": "edge"}), scans)
    assert [event.modality for event in said.events] == ["pet", "mri"]


def test_two_names_of_one_image_in_one_answer_are_both_read() -> None:
    answer = {"visible": "clean", "infrared": "blur", "thermal": "stripes"}
    events = parse_caption(json.dumps(answer), IVF).events
    assert [event.type for event in events] == ["clean", "motion_blur", "sensor_artifact"]


def test_a_modality_line_stands_over_its_events_where_the_answer_begins_with_one() -> None:
    """Else each image would get the degradations of the one before it."""
    said = (
        ("visible", ("Event Type: Blur", "Description: x", "Event Type: Stripes")),
        ("infrared", ("Event Type: Noise", "Description: y", "Event Type: Blur")),
    )
    expected = [("visible", "motion_blur"), ("visible", "sensor_artifact")]
    expected += [("infrared", "infrared_noise"), ("infrared", "motion_blur")]
    over = "\n".join("\n".join((f"Modality: {modality}", *lines)) for modality, lines in said)
    assert [(event.modality, event.type) for event in parse_caption(over, IVF).events] == expected
    assert [event.description for event in parse_caption(f"Scene: a road\n{over}", IVF).events] == ["x", "", "y", ""]
    after = "Event Type: Blur\nModality: visible\nEvent Type: Noise\nModality: infrared\nEvent Type: Stripes"
    assert [event.modality for event in parse_caption(after, IVF).events] == ["visible", "infrared", None]


def test_a_label_by_its_own_name_stays_that_label() -> None:
    answer = {"visible": "infrared noise", "infrared": [{"type": "high_noise"}, {"type": "dark"}]}
    assert [(event.modality, event.type) for event in parse_caption(json.dumps(answer), IVF).events] == [
        ("visible", "infrared_noise"),
        ("infrared", "high_noise"),
        ("infrared", "low_light"),
    ]
    text = "Event Type: Glare, high noise, IR noise\nDescription: of the lamps; the infrared image shows the road"
    assert [event.modality for event in parse_caption(text, IVF).events] == ["visible", "visible", "infrared"]
