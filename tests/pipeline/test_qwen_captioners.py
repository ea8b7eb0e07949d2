"""Qwen2-VL for real: a tiny random model through transformers. test_vllm.py has the same model through vLLM."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.checkpoint import find_checkpoint
from pipeline.errors import InputError, WeightsError
from pipeline.task_file import load_task
from tiny_qwen import BUDGET, build_tiny_qwen

TASK = load_task("ivf")


def test_transformers_answers_every_pair_the_same_way_in_any_batch(
    qwen_model: Path, qwen_pairs: list[CaptionRequest]
) -> None:
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings

    texts = []
    for batch in (1, 3):
        settings = TransformersSettings(model=str(qwen_model), max_tokens=12, batch=batch, **BUDGET)
        captioner = TransformersCaptioner(TASK, settings)
        captions = captioner.caption(qwen_pairs)
        assert [caption.error_kind for caption in captions] == ["unparsable"] * 3  # a random model babbles
        assert all(caption.raw and caption.tokens == 12 and caption.finish_reason == "length" for caption in captions)
        texts.append(captions[0].raw)
        assert captioner.fingerprint()["revision"] == find_checkpoint(str(qwen_model)).revision
    assert texts[0] == texts[1]


def test_another_weight_is_another_revision(qwen_model: Path, tmp_path: Path) -> None:
    other = build_tiny_qwen(tmp_path / "other", seed=1)
    assert find_checkpoint(str(qwen_model)).revision != find_checkpoint(str(other)).revision


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="config.json"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(WeightsError, match="no such folder"):
        find_checkpoint(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"batch": -1}, {"max_tokens": 0}, {"min_pixels": 0}, {"max_pixels": 0}]
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    from pipeline.captioners.transformers import TransformersSettings

    with pytest.raises(InputError, match=next(iter(change))):
        TransformersSettings(**change)


def test_a_folder_that_holds_no_such_model_is_one_sentence(qwen_model: Path, tmp_path: Path) -> None:
    """An empty configuration, a language model without eyes, weights that are missing, weights cut short."""
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings

    configs = {"empty": "{}", "blind": '{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}'}
    for name, config in configs.items():
        shutil.copytree(qwen_model, tmp_path / name)
        (tmp_path / name / "config.json").write_text(config)
    for name, content in {"missing": b"", "cut": (qwen_model / "model.safetensors").read_bytes()[:1000]}.items():
        shutil.copytree(qwen_model, tmp_path / name)
        weights = tmp_path / name / "model.safetensors"
        weights.write_bytes(content) if content else weights.unlink()
    for name in (*configs, "missing", "cut"):
        settings = TransformersSettings(model=str(tmp_path / name), **BUDGET)
        with pytest.raises(WeightsError, match=f"{tmp_path / name}: transformers cannot load it"):
            TransformersCaptioner(TASK, settings)
    settings = TransformersSettings(model=str(qwen_model), dtype="flaot32")
    with pytest.raises(WeightsError, match="flaot32"):
        TransformersCaptioner(TASK, settings)


@pytest.mark.parametrize("place", [0, 2**20 - 1, -(2**20), -1])
def test_a_changed_byte_at_either_end_of_large_weights_is_another_revision(tmp_path: Path, place: int) -> None:
    (tmp_path / "config.json").write_text("{}")
    content = bytearray(3 * 2**20)
    (tmp_path / "model.safetensors").write_bytes(content)
    before = find_checkpoint(str(tmp_path)).revision
    content[place] = 1
    (tmp_path / "model.safetensors").write_bytes(content)
    assert find_checkpoint(str(tmp_path)).revision != before
