"""Captions from running servers that speak the OpenAI chat protocol (``vllm serve`` and others)."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.conversation import Message, conversation, data_url
from pipeline.errors import FusionError, InputError, MissingPackage
from pipeline.events import Caption, failed_caption, whole
from pipeline.settings import at_least_one
from pipeline.tasks import Task

if TYPE_CHECKING:
    import httpx

FOR_NOBODY = frozenset({301, 302, 307, 308, 401, 404})  # a wrong key, model or address: no other pair will fare better
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class EndpointsGone(FusionError):
    """Every endpoint stopped answering; the run stops, and what is committed stays."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where the servers are and how hard to press them.

    Only model, revision, pixel budget and sampling decide the captions.
    ``min_pixels`` and ``max_pixels`` None: as the server was started. vLLM takes them under ``--trust-request-mm-kwargs``.
    """

    urls: tuple[str, ...]
    model: str
    revision: str | None = None
    api_key: str | None = None
    concurrency: int = 16
    timeout: float = 120.0
    attempts: int = 6
    backoff: float = 0.5  # seconds before the first retry; doubled each time, with full jitter
    breaker: int = 8  # failures in a row that declare an endpoint gone
    min_pixels: int | None = None
    max_pixels: int | None = None
    max_tokens: int = 512

    def __post_init__(self) -> None:
        at_least_one(self, "concurrency", "attempts", "breaker", "max_tokens")
        if not (0 < self.timeout < math.inf):
            raise InputError(f"timeout={self.timeout}: seconds, above 0")
        if not (0 <= self.backoff < math.inf):
            raise InputError(f"backoff={self.backoff}: seconds, at least 0")
        if not (self.api_key or "").isascii() or not (self.api_key or "").isprintable():
            raise InputError("api_key: a key has plain letters, digits and signs on one line; this one has others")


@dataclass(kw_only=True)
class Endpoint:
    """One server and its health."""

    url: str
    failures: int = 0
    last_error: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def succeeded(self) -> None:
        with self.lock:
            self.failures = 0

    def failed(self, reason: str, failures: int = 1) -> None:
        with self.lock:
            self.failures += failures
            self.last_error = reason


class ServerCaptioner:
    """Bounded concurrent requests over several endpoints, with retries and a circuit breaker for each."""

    name = "server"
    batch = 0

    def __init__(self, task: Task, settings: ServerSettings) -> None:
        """Raises MissingPackage without httpx, InputError without an endpoint."""
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise MissingPackage(
                "--captioner server needs httpx: pip install 'fusioncli[server]', or use --captioner vllm, transformers, "
                "or measured, which needs no model"
            ) from error
        if not settings.urls:
            raise InputError("--captioner server needs at least one --url, such as http://localhost:8000/v1")
        self.task, self.settings = task, settings
        self.endpoints = [Endpoint(url=url.rstrip("/")) for url in settings.urls]
        self.turn = count()
        headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        limits = httpx.Limits(max_connections=settings.concurrency)
        self.client = httpx.Client(timeout=settings.timeout, headers=headers, limits=limits)
        self.pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="caption")

    def fingerprint(self) -> dict[str, Any]:
        """Model, revision, pixel budget and sampling; not the endpoints, which may come and go."""
        return {
            "name": self.name,
            "engine": "openai-compatible server",
            "model": self.settings.model,
            "revision": self.settings.revision,
            "min_pixels": self.settings.min_pixels,
            "max_pixels": self.settings.max_pixels,
            "max_tokens": self.settings.max_tokens,
            "temperature": 0.0,
        }

    def caption(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        """One caption a request, in order. Raises EndpointsGone when no endpoint answers any more."""
        return list(self.pool.map(self._caption_one, requests))

    def close(self) -> None:
        """Close the connections."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.client.close()

    def _caption_one(self, request: CaptionRequest) -> Caption:
        import httpx

        body = self.body(request)
        reason = ""
        for attempt in range(self.settings.attempts):
            if attempt:
                time.sleep(random.uniform(0, self.settings.backoff * 2**attempt))
            endpoint = self._next_endpoint()
            try:
                response = self.client.post(f"{endpoint.url}/chat/completions", json=body)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                reason = f"{type(error).__name__}: {error}"
                endpoint.failed(reason)
                continue
            if response.status_code in RETRIED:
                reason = f"HTTP {response.status_code}"
                endpoint.failed(reason)
                continue
            if response.status_code in FOR_NOBODY:
                moved = f"moved to {response.headers.get('Location')}" if response.is_redirect else response.text[:500]
                reason = f"HTTP {response.status_code}: {moved}"
                endpoint.failed(reason, self.settings.breaker)
                continue
            endpoint.succeeded()
            return self._read(response)
        return failed_caption("server", f"no answer after {self.settings.attempts} attempts; the last: {reason}")

    def body(self, request: CaptionRequest) -> dict[str, Any]:
        """What is posted for a pair."""
        limits = {"min_pixels": self.settings.min_pixels, "max_pixels": self.settings.max_pixels}
        budget = {name: limit for name, limit in limits.items() if limit is not None}
        return {
            "model": self.settings.model,
            "messages": conversation(request, self.task.modalities, self.task.prompt(), _image_part),
            "temperature": 0.0,
            "max_tokens": self.settings.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "degradations", "strict": True, "schema": self.task.schema()},
            },
            **({"mm_processor_kwargs": budget} if budget else {}),
        }

    def _next_endpoint(self) -> Endpoint:
        alive = [endpoint for endpoint in self.endpoints if endpoint.failures < self.settings.breaker]
        if not alive:
            state = "; ".join(f"{endpoint.url}: {endpoint.last_error}" for endpoint in self.endpoints)
            raise EndpointsGone(
                f"no captioning endpoint answers any more ({state}); finished shards are kept: bring a server up and "
                "run the same command again"
            )
        return alive[next(self.turn) % len(alive)]

    def _read(self, response: httpx.Response) -> Caption:
        if response.status_code != 200:
            return failed_caption("refused", f"HTTP {response.status_code}: {response.text[:500]}")
        try:
            answer = response.json()
            choice = answer["choices"][0]
            text = choice["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            return failed_caption("server", f"not a chat completion: {response.text[:500]}")
        reason = choice.get("finish_reason")
        reason = whole(reason) if isinstance(reason, str) else None
        return parse_caption(text, self.task, finish_reason=reason, tokens=_tokens(answer.get("usage")))


def _tokens(usage: Any) -> int | None:
    """The tokens of an answer, where the server counts them as a table can hold it."""
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens < 2**63 else None


def _image_part(image: Any) -> Message:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}
