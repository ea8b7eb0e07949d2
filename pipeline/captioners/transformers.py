"""Captions by the same model through transformers: slower than vLLM, for a laptop with a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.checkpoint import DEFAULT_MODEL, find_checkpoint
from pipeline.captioners.conversation import Message, conversation
from pipeline.errors import MissingPackage, WeightsError
from pipeline.events import Caption
from pipeline.settings import at_least_one
from pipeline.tasks import Task


@dataclass(frozen=True, kw_only=True)
class TransformersSettings:
    """What decides the captions; ``batch`` only how many are made at once."""

    model: str = DEFAULT_MODEL
    revision: str | None = None
    dtype: str = "auto"
    min_pixels: int = 4 * 28 * 28
    max_pixels: int = 1024 * 28 * 28
    max_tokens: int = 512
    batch: int = 4

    def __post_init__(self) -> None:
        at_least_one(self, "min_pixels", "max_pixels", "max_tokens", "batch")


class TransformersCaptioner:
    """Greedy decoding without a schema: what cannot be parsed becomes a failed row with its raw text."""

    name = "transformers"
    batch = 0

    def __init__(self, task: Task, settings: TransformersSettings) -> None:
        """Load the model on the GPU if there is one. Raises MissingPackage or WeightsError."""
        try:
            import torch
            import transformers
            from safetensors import SafetensorError
        except ModuleNotFoundError as error:
            raise MissingPackage(
                "--captioner transformers needs transformers and torchvision: pip install 'fusioncli[transformers]', or "
                "use --captioner server with a running endpoint, or --captioner measured, which needs no model"
            ) from error
        self.task, self.settings = task, settings
        self.checkpoint = find_checkpoint(settings.model, settings.revision)
        self.version = str(transformers.__version__)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = str(self.checkpoint.folder)
        size = {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
        try:
            self.processor = transformers.AutoProcessor.from_pretrained(folder, size=size, padding_side="left")
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                folder, dtype=settings.dtype, use_safetensors=True
            )
        except (SafetensorError, OSError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            raise WeightsError(
                f"{settings.model}: transformers cannot load it as a model that sees images "
                f"({' '.join(str(error).split())[:300]}); give --model a whole folder or a Hub id, such as {DEFAULT_MODEL}"
            ) from error
        self.model = model.to(self.device).eval()

    def fingerprint(self) -> dict[str, Any]:
        """Model, revision, engine, precision, pixel budget and sampling."""
        return {
            "name": self.name,
            "engine": f"transformers {self.version}",
            "model": self.checkpoint.name,
            "revision": self.checkpoint.revision,
            "dtype": self.settings.dtype,
            "min_pixels": self.settings.min_pixels,
            "max_pixels": self.settings.max_pixels,
            "max_tokens": self.settings.max_tokens,
            "temperature": 0.0,
        }

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request, in order."""
        step = self.settings.batch
        batches = [requests[start : start + step] for start in range(0, len(requests), step)]
        return [caption for batch in batches for caption in self._batch(batch)]

    def close(self) -> None:
        """Let go of the model."""
        del self.model

    def _batch(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        import torch

        question = self.task.prompt()
        turns = [conversation(request, self.task.modalities, question, _image_part) for request in requests]
        inputs = self.processor.apply_chat_template(
            turns,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=True,
        ).to(self.device)
        with torch.inference_mode():
            output = self.model.generate(**inputs, max_new_tokens=self.settings.max_tokens, do_sample=False)
        answers = output[:, inputs["input_ids"].shape[1] :]
        return [self._parse(answer) for answer in answers]

    def _parse(self, answer: Any) -> Caption:
        tokenizer = self.processor.tokenizer
        ends = (answer == tokenizer.eos_token_id).nonzero()
        tokens = int(ends[0]) if len(ends) else len(answer)
        text = tokenizer.decode(answer[:tokens], skip_special_tokens=True)
        return parse_caption(text, self.task, finish_reason="stop" if len(ends) else "length", tokens=tokens)


def _image_part(image: Any) -> Message:
    return {"type": "image", "image": image}
