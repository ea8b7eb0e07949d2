"""Captions by Qwen2-VL (or Qwen2.5-VL) in this process, through vLLM's offline engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.checkpoint import DEFAULT_MODEL, find_checkpoint
from pipeline.captioners.conversation import Message, conversation
from pipeline.errors import MissingPackage
from pipeline.events import Caption, failed_caption
from pipeline.tasks import Task


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """What decides the captions (all of it goes into the fingerprint) and how the engine is spread over devices."""

    model: str = DEFAULT_MODEL
    revision: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 1024 * 28 * 28  # 1,024 visual tokens an image: a 1024 x 768 frame is seen nearly whole
    max_tokens: int = 512
    max_model_len: int = 8192
    tensor_parallel: int = 1
    gpu_memory: float = 0.9
    max_sequences: int = 256
    eager: bool = False


class VllmCaptioner:
    """One engine for a whole run; a shard's pairs are one batch."""

    name = "vllm"
    batch = 0

    def __init__(self, task: Task, settings: VllmSettings) -> None:
        """Load the model. Raises MissingPackage without vLLM, WeightsError when the model cannot be found."""
        # The engine stays in this process, so that killing the worker frees the device at once.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            import vllm
            import vllm.exceptions
            from vllm.sampling_params import StructuredOutputsParams
        except ModuleNotFoundError as error:
            raise MissingPackage(
                "--captioner vllm needs vLLM: pip install 'fusioncli[vllm]' on a machine with a GPU, or use --captioner "
                "server with a running endpoint, --captioner transformers, or --captioner measured, which needs no model"
            ) from error
        self.task, self.settings = task, settings
        self.checkpoint = find_checkpoint(settings.model, settings.revision)
        self.version = str(vllm.__version__)
        self.refusals = (ValueError, getattr(vllm.exceptions, "VLLMClientError", ValueError))  # by age of vLLM
        self.engine = vllm.LLM(
            str(self.checkpoint.folder),
            dtype=settings.dtype,
            quantization=settings.quantization,
            tensor_parallel_size=settings.tensor_parallel,
            gpu_memory_utilization=settings.gpu_memory,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_sequences,
            enforce_eager=settings.eager,
            limit_mm_per_prompt={"image": 2, "video": 0},
            mm_processor_kwargs={"min_pixels": settings.min_pixels, "max_pixels": settings.max_pixels},
            mm_processor_cache_gb=0,  # each image is seen once; and a refused request would poison the cache
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )
        self.sampling = vllm.SamplingParams(
            temperature=0.0,
            max_tokens=settings.max_tokens,
            structured_outputs=StructuredOutputsParams(json=task.schema()),
        )

    def fingerprint(self) -> dict[str, Any]:
        """Model, revision, engine, precision, pixel budget and sampling."""
        return {
            "name": self.name,
            "engine": f"vllm {self.version}",
            "model": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "dtype": self.settings.dtype,
            "quantization": self.settings.quantization,
            "min_pixels": self.settings.min_pixels,
            "max_pixels": self.settings.max_pixels,
            "max_tokens": self.settings.max_tokens,
            "temperature": 0.0,
        }

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request, in order."""
        question = self.task.prompt()
        turns = [conversation(request, self.task.modalities, question, _image_part) for request in requests]
        return self._answers(turns)

    def _answers(self, turns: list[list[Message]]) -> list[Caption]:
        """The answers to a batch. One prompt the engine refuses (too long, say) refuses it all: halving finds which."""
        try:
            return [self._parse(answer) for answer in self.engine.chat(turns, self.sampling, use_tqdm=False)]
        except self.refusals as error:
            if len(turns) == 1:
                return [failed_caption("refused", str(error))]
        middle = len(turns) // 2
        return self._answers(turns[:middle]) + self._answers(turns[middle:])

    def _parse(self, answer: Any) -> Caption:
        output = answer.outputs[0]
        return parse_caption(output.text, self.task, finish_reason=output.finish_reason, tokens=len(output.token_ids))

    def close(self) -> None:
        """Let go of the engine and its device memory."""
        del self.engine


def _image_part(image: object) -> dict[str, Any]:
    return {"type": "image_pil", "image_pil": image}
