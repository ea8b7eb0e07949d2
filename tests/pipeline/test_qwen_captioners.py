"""Qwen2-VL for real: a tiny random model through transformers, and through vLLM where that is installed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_qwen import MAX_PIXELS, MIN_PIXELS, build_tiny_qwen

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.checkpoint import find_checkpoint
from pipeline.errors import WeightsError
from pipeline.images import Picture
from pipeline.tasks import load_task

TASK = load_task("ivf")
BUDGET = {"min_pixels": MIN_PIXELS, "max_pixels": MAX_PIXELS, "dtype": "float32"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return build_tiny_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def pairs() -> list[CaptionRequest]:
    generator = np.random.default_rng(0)
    sizes = [(96, 128), (200, 120), (20, 64)]  # one side under the 28 pixels that crash the processor
    return [
        CaptionRequest(
            key=f"k{n}",
            pair_id=str(n),
            first=Picture(pixels=generator.integers(0, 256, (*size, 3), dtype=np.uint8)),
            second=Picture(pixels=generator.integers(0, 256, size, dtype=np.uint8)),
        )
        for n, size in enumerate(sizes)
    ]


def test_transformers_answers_every_pair_the_same_way_in_any_batch(model: Path, pairs: list[CaptionRequest]) -> None:
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings

    texts = []
    for batch in (1, 3):
        settings = TransformersSettings(model=str(model), max_tokens=12, batch=batch, **BUDGET)
        captioner = TransformersCaptioner(TASK, TASK.modalities, settings)
        captions = captioner.caption(pairs)
        assert [caption.error_kind for caption in captions] == ["unparsable"] * 3  # a random model babbles
        assert all(caption.raw and caption.tokens == 12 and caption.finish_reason == "length" for caption in captions)
        texts.append(captions[0].raw)
        assert captioner.fingerprint()["revision"] == find_checkpoint(str(model)).revision
    assert texts[0] == texts[1]


def test_another_weight_is_another_revision(model: Path, tmp_path: Path) -> None:
    other = build_tiny_qwen(tmp_path / "other", seed=1)
    assert find_checkpoint(str(model)).revision != find_checkpoint(str(other)).revision


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="config.json"):
        find_checkpoint(str(tmp_path))
    with pytest.raises(WeightsError, match="no such folder"):
        find_checkpoint(str(tmp_path / "nowhere"))


@pytest.mark.vllm
def test_vllm_in_process_answers_in_the_schema_and_says_what_transformers_says(
    model: Path, pairs: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.captioners.transformers import TransformersCaptioner, TransformersSettings
    from pipeline.captioners.vllm import VllmCaptioner, VllmSettings

    for name, value in cpu_environment().items():
        monkeypatch.setenv(name, value)
    settings = VllmSettings(model=str(model), max_model_len=3072, max_sequences=4, eager=True, max_tokens=700, **BUDGET)
    captioner = VllmCaptioner(TASK, TASK.modalities, settings)
    captions = captioner.caption(pairs)
    assert len(captions) == len(pairs)
    for caption in captions:
        if caption.finish_reason == "stop":  # a babbling model may also run into its limit
            assert set(json.loads(caption.raw)) == {"scene", *TASK.modalities}
            assert caption.error_kind is None and caption.events
        else:
            assert caption.error_kind == "unparsable"
    assert any(caption.finish_reason == "stop" for caption in captions)

    captioner.sampling.structured_outputs = None
    captioner.sampling.max_tokens = 12
    free = captioner.caption(pairs[:2])
    captioner.close()
    plain = TransformersCaptioner(
        TASK, TASK.modalities, TransformersSettings(model=str(model), max_tokens=12, **BUDGET)
    )
    assert [caption.raw for caption in free] == [caption.raw for caption in plain.caption(pairs[:2])]


@pytest.fixture(scope="module")
def vllm_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model),
        "--served-model-name",
        "tiny",
    ]
    command += [
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--dtype",
        "float32",
        "--max-model-len",
        "3072",
        "--enforce-eager",
    ]
    command += [
        "--max-num-seqs",
        "4",
        "--limit-mm-per-prompt",
        '{"image": 2, "video": 0}',
        "--mm-processor-cache-gb",
        "0",
    ]
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **cpu_environment()}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


@pytest.mark.vllm
def test_a_vllm_server_answers_in_the_schema(vllm_server: str, pairs: list[CaptionRequest]) -> None:
    from pipeline.captioners.server import ServerCaptioner, ServerSettings

    settings = ServerSettings(urls=(vllm_server,), model="tiny", max_tokens=700, concurrency=2)
    captions = ServerCaptioner(TASK, TASK.modalities, settings).caption(pairs)
    assert len(captions) == len(pairs)
    assert all(caption.error_kind in (None, "unparsable") for caption in captions)
    finished = [caption for caption in captions if caption.finish_reason == "stop"]
    assert finished and all(set(json.loads(caption.raw)) == {"scene", *TASK.modalities} for caption in finished)


def cpu_environment() -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(1)
    pytest.fail(f"the server did not come up:\n{log.read_text()[-2000:]}")
