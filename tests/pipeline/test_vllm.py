"""A real vLLM on the CPU, in process and as a server: two images a prompt, answers in the schema, transformers' text.

Runs in an environment of its own: `make test-vllm`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.tasks
from pipeline.captioners import CAPTIONERS, BackEnd
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.conversation import Message, conversation
from pipeline.captioners.server import ServerCaptioner, ServerSettings
from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings
from pipeline.captioners.vllm import VllmCaptioner, VllmSettings
from pipeline.captioning import CaptionOptions, caption_pairs
from pipeline.events import Caption
from pipeline.images import Picture
from pipeline.sources import find_source
from pipeline.store import Store
from pipeline.task_file import load_task
from pipeline.verify import verify
from tiny_qwen import BUDGET

pytestmark = pytest.mark.vllm
TASK = load_task("ivf")
FREE_TOKENS = 12
CPU = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads bound to a busy core wait for it at every step
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module", autouse=True)
def _short_answers() -> Iterator[None]:
    """A model of random weights fills every text up to the schema's limit, so the limits are low here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in (("SCENE_LENGTH", 30), ("DESCRIPTION_LENGTH", 20), ("EVENTS_PER_MODALITY", 2)):
            patch.setattr(pipeline.tasks, name, limit)
        for name, value in CPU.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def engine(qwen_model: Path, _short_answers: None) -> Iterator[VllmCaptioner]:
    pytest.importorskip("vllm")
    settings = VllmSettings(
        model=str(qwen_model), max_model_len=3072, max_sequences=4, eager=True, max_tokens=800, **BUDGET
    )
    captioner = VllmCaptioner(TASK, settings)
    yield captioner
    captioner.close()


@pytest.fixture(scope="module")
def server(qwen_model: Path, tmp_path_factory: pytest.TempPathFactory, _short_answers: None) -> Iterator[str]:
    pytest.importorskip("vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"""
        --model {qwen_model} --served-model-name tiny --host 127.0.0.1 --port {port} --dtype float32
        --max-model-len 3072 --max-num-seqs 4 --enforce-eager --mm-processor-cache-gb 0
        --trust-request-mm-kwargs
    """.split()
    options += ["--limit-mm-per-prompt", '{"image": 2, "video": 0}']
    options += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options],
            env={**os.environ, **CPU},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def greedy(qwen_model: Path, qwen_pairs: list[CaptionRequest]) -> list[str]:
    """The first tokens that transformers gives, without a schema."""
    settings = TransformersSettings(model=str(qwen_model), max_tokens=FREE_TOKENS, **BUDGET)
    return [caption.raw for caption in TransformersCaptioner(TASK, settings).caption(qwen_pairs)]


def assert_in_schema(captions: list[Caption], count: int) -> None:
    assert len(captions) == count
    for caption in captions:
        assert caption.finish_reason == "stop" and caption.error_kind is None, caption.error
        answer = json.loads(caption.raw, strict=False)  # babble has control characters
        assert list(answer) == ["scene", *TASK.modalities]
        for modality in TASK.modalities:
            assert 1 <= len(answer[modality]) <= 2
            assert all(list(event) == ["type", "severity", "description"] for event in answer[modality])
            assert {event["type"] for event in answer[modality]} <= set(TASK.labels(modality))
        assert {event.modality for event in caption.events} == set(TASK.modalities)
        assert caption.tokens


def test_in_process_every_answer_keeps_to_the_schema(engine: VllmCaptioner, qwen_pairs: list[CaptionRequest]) -> None:
    assert_in_schema(engine.caption(qwen_pairs), len(qwen_pairs))


def test_in_process_greedy_text_is_that_of_transformers(
    engine: VllmCaptioner, qwen_pairs: list[CaptionRequest], greedy: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(engine, monkeypatch)
    assert [caption.raw for caption in engine.caption(qwen_pairs)] == greedy


def test_the_model_sees_both_images(
    engine: VllmCaptioner, qwen_pairs: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(engine, monkeypatch)
    pair = qwen_pairs[0]
    black = replace(pair.first, pixels=np.zeros_like(pair.first.pixels))
    variants = [pair, replace(pair, first=black), replace(pair, second=black)]
    assert len({caption.raw for caption in engine.caption(variants)}) == 3


def test_a_refused_pair_is_a_failed_row_and_costs_no_other(
    engine: VllmCaptioner, qwen_pairs: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wordy(request: CaptionRequest, *rest: Any) -> list[Message]:
        turns = conversation(request, *rest)
        if request is qwen_pairs[1]:
            turns[0]["content"].append({"type": "text", "text": "word " * 3000})
        return turns

    monkeypatch.setattr("pipeline.captioners.vllm.conversation", wordy)
    captions = engine.caption(qwen_pairs)
    assert [caption.error_kind for caption in captions] == [None, "refused", None]


def test_a_store_is_made_through_the_engine(
    engine: VllmCaptioner, tmp_path: Path, draw_pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    answer = VllmCaptioner.caption

    def counted(self: VllmCaptioner, requests: list[CaptionRequest]) -> list[Caption]:
        batches.append(len(requests))
        return answer(self, requests)

    monkeypatch.setattr(VllmCaptioner, "caption", counted)
    monkeypatch.setattr(VllmCaptioner, "close", lambda self: None)  # the engine serves other tests
    monkeypatch.setitem(CAPTIONERS, "vllm", BackEnd(load=lambda: (lambda task, settings: engine, VllmSettings)))
    folders = draw_pairs(5, size=(40, 56))
    options = CaptionOptions(store=str(tmp_path / "s"), captioner="vllm", embedder="hashing", shard_size=3, workers=1)
    summary = caption_pairs(options, find_source(None, folders, None, None, None))
    store = Store.open(tmp_path / "s")
    assert batches == [3, 2], "a shard's pairs are one batch"
    assert (summary.pairs, summary.failed) == (5, 0)
    assert verify(store).problems == []
    captioner = store.fingerprint("text")["captioner"]
    assert captioner["revision"] == engine.checkpoint.revision
    assert captioner["engine"].startswith("vllm ")
    assert (captioner["min_pixels"], captioner["max_pixels"]) == (BUDGET["min_pixels"], BUDGET["max_pixels"])


def test_a_server_keeps_to_the_schema_and_says_what_transformers_says(
    server: str, qwen_pairs: list[CaptionRequest], greedy: list[str]
) -> None:
    settings = ServerSettings(urls=(server,), model="tiny", max_tokens=800, concurrency=2)
    captioner = ServerCaptioner(TASK, settings)
    assert_in_schema(captioner.caption(qwen_pairs), len(qwen_pairs))
    body = captioner.body(qwen_pairs[0]) | {"max_tokens": FREE_TOKENS, "response_format": {"type": "text"}}
    request = urllib.request.Request(
        f"{server}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        assert json.load(response)["choices"][0]["message"]["content"] == greedy[0]
    captioner.close()


def test_a_server_keeps_to_the_pixel_budget_of_the_request(server: str) -> None:
    picture = Picture(
        pixels=np.full((224, 224), 90, dtype=np.uint8)
    )  # 64 visual tokens an image of 28 x 28 pixels each
    request = CaptionRequest(key="k", pair_id="0", first=picture, second=picture)

    def tokens(max_pixels: int | None) -> int:
        captioner = ServerCaptioner(TASK, ServerSettings(urls=(server,), model="tiny", max_pixels=max_pixels))
        body = json.dumps(captioner.body(request) | {"max_tokens": 1, "response_format": {"type": "text"}})
        captioner.close()
        posted = urllib.request.Request(
            f"{server}/chat/completions", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(posted, timeout=120) as response:
            return int(json.load(response)["usage"]["prompt_tokens"])

    assert tokens(None) - tokens(16 * 28 * 28) == 2 * (64 - 16)


def free(engine: VllmCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a few tokens without a schema."""
    sampling = engine.sampling.clone()
    sampling.structured_outputs = None
    sampling.max_tokens = FREE_TOKENS
    monkeypatch.setattr(engine, "sampling", sampling)
