"""Answers of a model, well-formed and not, become events; nothing is lost and nothing is made up."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.answers import parse_caption
from pipeline.events import Event, by_severity, caption_text, failed_caption
from pipeline.task_file import load_task

IVF = load_task("ivf")
ANSWER = {
    "scene": "A street at night with two people",
    "visible": [
        {"type": "low_light", "severity": "severe", "description": "the road is black"},
        {"type": "motion_blur", "severity": "slight", "description": "the car is smeared"},
    ],
    "infrared": [{"type": "clean", "severity": "none", "description": ""}],
}
EVENTS = (
    Event(modality="visible", type="low_light", severity="severe", description="the road is black"),
    Event(modality="visible", type="motion_blur", severity="slight", description="the car is smeared"),
    Event(modality="infrared", type="clean"),
)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ANSWER),
        json.dumps(ANSWER, indent=2),
        f"```json\n{json.dumps(ANSWER)}\n```",
        f"Here is the answer: {json.dumps(ANSWER)} I hope it helps {{really}}.",
        f"{{not json}} {json.dumps(ANSWER)}",
    ],
)
def test_json_is_read_in_any_wrapping(text: str) -> None:
    caption = parse_caption(text, IVF, finish_reason="stop", tokens=7)
    assert caption.events == EVENTS
    assert caption.scene == "A street at night with two people"
    assert (caption.raw, caption.finish_reason, caption.tokens, caption.error_kind) == (text, "stop", 7, None)


def test_unknown_labels_are_kept_as_given() -> None:
    caption = parse_caption('{"visible": [{"type": "Lens Flare", "severity": "huge"}], "infrared": "clean"}', IVF)
    assert [event.type for event in caption.events] == ["lens_flare", "clean"]
    assert caption.events[0].severity is None


def test_a_label_in_another_script_is_kept_beside_known_ones() -> None:
    """Dropped, it would leave a pair that is said to be dark with the weights of a clean one, and nobody would know."""
    for text, label in (("低光", "低光"), ("Überbelichtung ", "überbelichtung"), ("Шум / Туман", "шум")):
        answer = {"visible": [{"type": text}], "infrared": [{"type": "clean"}]}
        caption = parse_caption(json.dumps(answer, ensure_ascii=False), IVF)
        assert caption.events[0].type == label
        assert caption.events[-1] == Event(modality="infrared", type="clean")
    lines = parse_caption("Event Type: low light、噪声\nDescription: 街道", IVF)
    assert [(event.type, event.description) for event in lines.events] == [("low_light", "街道"), ("噪声", "街道")]


def test_several_labels_in_one_field_are_several_events_in_json_too() -> None:
    answer = {"visible": [{"type": "low light, blur", "severity": "severe"}], "infrared": "IR noise and stripes"}
    assert [
        (event.modality, event.type, event.severity) for event in parse_caption(json.dumps(answer), IVF).events
    ] == [
        ("visible", "low_light", "severe"),
        ("visible", "motion_blur", "severe"),
        ("infrared", "infrared_noise", None),
        ("infrared", "sensor_artifact", None),
    ]


LOW = ("low_light", "the street is dark")
NOISE = ("infrared_noise", "grain on the thermal image")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Event Type: Low Light\nDescription: the street is dark", [LOW]),
        ("Event Type: low-light\n\n\nDescription: the street is dark\n\n", [LOW]),
        ("```\nevent type: LOW LIGHT\ndescription: the street is dark\n```", [LOW]),
        ("1. **Event Type:** Low_Light\n   **Description:** the street is dark", [LOW]),
        ("- *Event type*: `low light`\n- *Description*: the street is dark", [LOW]),
        ("Event Type 1: Low Light\nDescription 1: the street is dark", [LOW]),
        ("**Event Type (1)**: Low Light\n**Description (1)**: the street is dark", [LOW]),
        ("Event Type: Low Light\nDescription: the street\nis dark", [LOW]),
        ("Event Type: Low Light\nDescription:\n\nthe street is dark", [LOW]),
        (
            "Event Type: Low Light\n\nDescription: the street is dark\n\n\n"
            "Event Type: Infrared Noise\n\nDescription: grain on the thermal image\n",
            [LOW, NOISE],
        ),
        ("Event Type: Low Light\nEvent Type: IR noise\nDescription: x", [("low_light", ""), ("infrared_noise", "x")]),
        (
            "Event Type: Low Light, Overexposure and blur",
            [(x, "") for x in ("low_light", "over_exposure", "motion_blur")],
        ),
        ("Event Type: Rain\r\nDescription: drops on the lens\r\n", [("rain", "drops on the lens")]),
    ],
)
def test_the_papers_two_lines_are_read(text: str, expected: list[tuple[str, str]]) -> None:
    caption = parse_caption(text, IVF)
    assert [(event.type, event.description) for event in caption.events] == expected
    assert all(event.severity is None for event in caption.events)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "I cannot see images.",
        "{}",
        '{"visible": [], "infrared": []}',
        "Event Type:",
        "[1, 2]",
        '{"visible": 3}',
        '{"scene": "a road", "visible": [{"type": "low_li',
        "{" * 5000,
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_text(text: str) -> None:
    caption = parse_caption(text, IVF, finish_reason="length")
    assert caption.error_kind == "unparsable"
    assert caption.error
    assert caption.raw == text
    assert caption.events == ()


LOW_SEVERE = Event(modality="visible", type="low_light", severity="severe", description="very dark")
CLEAN = Event(modality="infrared", type="clean")


@pytest.mark.parametrize(
    "said",
    [
        [{"event_type": "low_light", "severity": "severe", "description": "very dark"}],
        [{"Event Type": "low light", "Severity": "Severe", "Description": "very dark"}],
        {"label": "low_light", "severity": "severe", "description": "very dark"},
        {"events": [{"type": "low_light", "severity": "severe", "description": "very dark"}]},
        {"Events": {"event-type": "low_light", "severity": "severe", "description": "very dark"}},
        {"type": "low_light", "severity": "severe", "description": "very dark", "events": []},
    ],
)
def test_other_spellings_of_an_event_are_read(said: object) -> None:
    for other in ("clean", [{"type": "clean"}], {"events": ["clean"]}):
        answer = json.dumps({"scene": "a road", "visible": said, "infrared": other})
        assert parse_caption(answer, IVF).events == (LOW_SEVERE, CLEAN)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"scene": "a road", "infrared": "clean"}, "no 'visible'"),
        ({"scene": "a road", "visible": [{"type": "low_light"}], "third": "clean"}, "no 'infrared'"),
        ({"visible": {"type": ["low_light", "noise"]}, "infrared": "clean"}, "['low_light', 'noise']"),
        ({"visible": [{"kind": "low_light"}], "infrared": "clean"}, "{'kind': 'low_light'}"),
        ({"visible": "clean", "infrared": [{"type": "clean"}, {"severity": "severe"}]}, "{'severity': 'severe'}"),
        ({"visible": {"events": {"low_light": "severe"}}, "infrared": "clean"}, "{'low_light': 'severe'}"),
        ({"visible": {"low_light": True}, "infrared": "clean"}, "{'low_light': True}"),
        ({"visible": [["low_light"]], "infrared": "clean"}, "['low_light']"),
        ({"visible": [{}], "infrared": "clean"}, "{}"),
        ({"visible": {"type": None}, "infrared": "clean"}, "{'type': None}"),
        ({"visible": 0, "infrared": "clean"}, "no label in 0, which the answer holds for 'visible'"),
        ({"visible": "...", "infrared": "clean"}, "'...'"),
        ({"visible": [{"type": " "}], "infrared": "clean"}, "{'type': ' '}"),
        ({"visible": [], "infrared": ""}, "says nothing"),
    ],
)
def test_an_answer_that_can_be_read_in_part_is_an_error_and_not_that_part(answer: object, told: str) -> None:
    """Else a pair of which a severe degradation was said would be a clean one, and nobody would know."""
    for text in (json.dumps(answer), f"{json.dumps(answer)}\nEvent Type: Clean"):
        caption = parse_caption(text, IVF)
        assert (caption.error_kind, caption.events, caption.raw) == ("unparsable", (), text)
        assert told in str(caption.error) and "expected" in str(caption.error)


def test_two_lines_without_a_label_are_an_error_and_not_left_out() -> None:
    text = "Event Type:\nDescription: the visible image is dark\nEvent Type: Clean"
    caption = parse_caption(text, IVF)
    assert caption.error_kind == "unparsable"
    assert "the visible image is dark" in str(caption.error)


@pytest.mark.parametrize("nothing", [[], None, "", {}, {"events": []}])
def test_an_image_of_which_nothing_is_said_has_no_event(nothing: object) -> None:
    text = json.dumps({"visible": [{"type": "low light"}], "infrared": nothing})
    assert parse_caption(text, IVF).events == (Event(modality="visible", type="low_light"),)


def test_the_first_answer_that_can_be_read_in_full_is_the_one() -> None:
    """A model may repeat the form, or begin badly, before it answers; what lies inside a bad answer is no answer."""
    form = '{"scene": "...", "visible": [{"type": "..."}], "infrared": [{"type": "..."}]}'
    assert parse_caption(f"{form}\n{json.dumps(ANSWER)}", IVF).events == EVENTS
    inner = {"visible": {"kind": "low_light", "before": ANSWER}, "infrared": "clean"}
    assert parse_caption(json.dumps(inner), IVF).error_kind == "unparsable"
    assert parse_caption(json.dumps({"answer": ANSWER}), IVF).events == EVENTS


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    caption = parse_caption(text, IVF)
    assert caption.raw == text
    assert bool(caption.events) != bool(caption.error_kind)


def test_medical_answers_use_their_own_modalities() -> None:
    task = load_task("medical").between("pet", "mri")
    caption = parse_caption('{"scene": "a brain", "PET": [{"type": "noise suppression"}], "mri": []}', task)
    assert caption.events == (Event(modality="pet", type="noise_suppression"),)


def test_prose_puts_the_worst_first() -> None:
    caption = parse_caption(json.dumps({**ANSWER, "visible": ANSWER["visible"][::-1]}), IVF)
    assert caption_text(caption) == (
        "A street at night with two people. Severe low light in the visible image: the road is black. "
        "Slight motion blur in the visible image: the car is smeared. Clean in the infrared image."
    )


def test_events_stand_by_severity_and_otherwise_as_given() -> None:
    events = [
        Event(modality=None, type=name, severity=severity)
        for name, severity in (
            ("a", None),
            ("b", "slight"),
            ("c", "moderate"),
            ("d", "severe"),
            ("e", "moderate"),
            ("f", "slight"),
            ("g", "huge"),
        )
    ]
    assert [event.type for event in by_severity(events)] == ["d", "c", "e", "b", "f", "a", "g"]


def test_half_a_character_is_kept_as_a_question_mark() -> None:
    """An answer that was cut inside an escape: legal JSON, and no text that a file can hold."""
    text = (
        '{"scene": "dusk \\ud83d", "visible": [{"type": "gl\\udc00w", "description": "bulb \\ud83d"}], "infrared": []}'
    )
    caption = parse_caption(text + "\ud83d", IVF)
    assert (caption.scene, caption.events[0].description) == ("dusk ?", "bulb ?")
    for said in (caption.raw, caption.scene, caption.events[0].type, failed_caption("x", "\ud83d", "\ud83d").raw):
        said.encode()


def test_a_number_of_thousands_of_digits_is_no_crash() -> None:
    assert parse_caption(f'{{"a": {"9" * 6000}}} {json.dumps(ANSWER)}', IVF).events == EVENTS
