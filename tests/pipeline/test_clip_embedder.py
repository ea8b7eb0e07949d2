"""The CLIP embedder with real open_clip code and its real tokenizer, on a tiny text tower of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.embedders.clip import ClipEmbedder, ClipSettings
from pipeline.errors import InputError, WeightsError
from pipeline.events import Caption, Event

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
DARK = Event(modality="visible", type="low_light", severity="severe", description="the road sinks into shadow")
GRAIN = Event(modality="infrared", type="infrared_noise", severity="slight", description="fine grain everywhere")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipEmbedder]:
    open_clip = pytest.importorskip("open_clip")
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    weights = folder / "tiny.safetensors"
    save_file(open_clip.create_model("tiny-clip").state_dict(), weights)
    yield ClipEmbedder(ClipSettings(model="tiny-clip", pretrained=str(weights)))


def test_vectors_are_unit_and_follow_the_description(embedder: ClipEmbedder) -> None:
    texts = [embedder.fit(Caption(events=(event,))).text for event in (DARK, replace(DARK, description="lamps glare"))]
    vectors = embedder.embed(texts)
    assert vectors.shape == (2, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose((vectors**2).sum(axis=1), 1, rtol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0], embedder.embed([texts[0]])[0])


def test_a_short_caption_is_kept_whole_the_most_severe_event_first(embedder: ClipEmbedder) -> None:
    fitted = embedder.fit(Caption(events=(GRAIN, DARK), scene="a street at night"))
    assert fitted.dropped == 0
    assert fitted.text.startswith("a street at night.")
    assert fitted.text.index("low light") < fitted.text.index("infrared noise")
    assert fitted.tokens == embedder.count(fitted.text) <= 77


def test_tokens_are_counted_by_the_real_tokenizer_not_as_words(embedder: ClipEmbedder) -> None:
    text = "overexposed thermogram antialiasing"
    row = embedder.tokenizer([text])[0]
    assert embedder.count(text) == int((row != 0).sum()) > len(text.split()) + 2


def test_an_event_whose_description_does_not_fit_keeps_its_name(embedder: ClipEmbedder) -> None:
    long = Event(modality="visible", type="motion_blur", severity="moderate", description="seen " * 80)
    fitted = embedder.fit(Caption(events=(long, GRAIN, DARK)))
    assert fitted.dropped == 0 and fitted.tokens <= 77
    assert fitted.text == (
        "Severe low light in the visible image: the road sinks into shadow. Moderate motion blur in the visible image. "
        "Slight infrared noise in the infrared image: fine grain everywhere."
    )


def test_what_does_not_fit_is_dropped_and_counted(embedder: ClipEmbedder) -> None:
    many = tuple(
        Event(modality="visible", type=f"unknown_label_{n}", severity="slight", description="seen " * 12)
        for n in range(30)
    )
    fitted = embedder.fit(Caption(events=(*many, DARK), scene="a street"))
    assert fitted.tokens <= 77
    assert fitted.text.startswith("Severe low light in the visible image: the road sinks into shadow.")
    assert fitted.dropped > 0
    kept = sum(f"unknown label {n} " in f"{fitted.text} ".replace(".", " ").replace(":", " ") for n in range(30))
    assert kept + fitted.dropped == 30


def test_one_endless_description_still_fits(embedder: ClipEmbedder) -> None:
    fitted = embedder.fit(Caption(scene="x" * 4000))
    assert 0 < fitted.tokens <= 77


def test_the_fingerprint_knows_the_weights(embedder: ClipEmbedder, tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    other = open_clip.create_model("tiny-clip")
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    second = ClipEmbedder(ClipSettings(model="tiny-clip", pretrained=str(tmp_path / "other.safetensors")))
    assert embedder.fingerprint()["weights_digest"] != second.fingerprint()["weights_digest"]
    assert embedder.fingerprint()["width"] == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ClipSettings(model="ViT-B-33"), "did you mean"),
        (ClipSettings(pretrained="opanai"), "did you mean 'openai'"),
        (ClipSettings(pretrained="nowhere/weights.safetensors"), "no such CLIP weights file"),
    ],
)
def test_wrong_names_are_refused_with_the_closest(settings: ClipSettings, message: str) -> None:
    pytest.importorskip("open_clip")
    with pytest.raises(WeightsError, match=message):
        ClipEmbedder(settings)


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch=0: at least 1"):
        ClipSettings(batch=0)


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt", "words.pt", "empty.bin"])
def test_weights_that_cannot_be_read_are_one_sentence(embedder: ClipEmbedder, tmp_path: Path, name: str) -> None:
    whole = Path(embedder.settings.pretrained).read_bytes()
    (tmp_path / name).write_bytes({"cut": whole[:5000], "words": b"no weights", "empty": b""}[name.split(".")[0]])
    with pytest.raises(WeightsError, match="its weights cannot be had"):
        ClipEmbedder(ClipSettings(model="tiny-clip", pretrained=str(tmp_path / name)))
