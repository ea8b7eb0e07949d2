"""Captions from running servers that speak the OpenAI chat protocol (``vllm serve`` and others)."""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from pipeline.answers import parse_caption
from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.conversation import Message, conversation, data_url
from pipeline.captioners.posting import Answer, post
from pipeline.errors import FusionError, InputError, MissingPackage
from pipeline.events import Caption, failed_caption, whole
from pipeline.settings import at_least_one
from pipeline.tasks import Task

FOR_NOBODY = frozenset({301, 302, 307, 308, 401, 404})  # a wrong key, model or address: no other pair will fare better
BUSY = 429  # a server that says so is well; it is left alone for a while
RETRIED = frozenset({408, 425, BUSY, 500, 502, 503, 504})


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

    def succeeded(self) -> None:
        self.failures = 0

    def failed(self, reason: str, failures: int = 1) -> None:
        self.failures += failures
        self.last_error = reason


class ServerCaptioner:
    """Bounded concurrent requests over several endpoints, with retries and a circuit breaker for each.

    They run in an event loop of their own, in a thread that nothing waits for: Ctrl-C ends them all at once, and a
    notebook may have a loop already.
    """

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
        self.client = httpx.AsyncClient(timeout=settings.timeout, headers=headers, limits=limits)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="captions", daemon=True).start()

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
        captions = asyncio.run_coroutine_threadsafe(self._caption_all(requests), self.loop)
        try:
            return captions.result()
        finally:
            captions.cancel()

    def close(self) -> None:
        """Close the connections."""
        asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def _caption_all(self, requests: Sequence[CaptionRequest]) -> list[Caption]:
        places = asyncio.Semaphore(self.settings.concurrency)

        async def one(request: CaptionRequest) -> Caption:
            async with places:
                return await self._caption_one(request)

        tasks = [asyncio.create_task(one(request)) for request in requests]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _caption_one(self, request: CaptionRequest) -> Caption:
        import httpx

        body = await asyncio.to_thread(self.body, request)
        reason, wait = "", 0.0
        for attempt in range(self.settings.attempts):
            if attempt:
                await asyncio.sleep(max(wait, random.uniform(0, self.settings.backoff * 2**attempt)))
            endpoint, wait = self._next_endpoint(), 0.0
            try:
                answer = await post(self.client, f"{endpoint.url}/chat/completions", body, self.settings.timeout)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                reason = f"{type(error).__name__}: {error}"
                endpoint.failed(reason)
                continue
            if answer.status in RETRIED:
                reason, wait = f"HTTP {answer.status}", answer.wait
                if answer.status != BUSY or attempt == self.settings.attempts - 1:
                    endpoint.failed(reason)
                continue
            if answer.status in FOR_NOBODY:
                moved = answer.shown() if answer.location is None else f"moved to {answer.location}"
                reason = f"HTTP {answer.status}: {moved}"
                endpoint.failed(reason, self.settings.breaker)
                continue
            endpoint.succeeded()
            return self._read(answer)
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

    def _read(self, answer: Answer) -> Caption:
        if answer.status != 200:
            return failed_caption("refused", f"HTTP {answer.status}: {answer.shown()}")
        try:
            said = json.loads(answer.body)
            choice = said["choices"][0]
            text = choice["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            text = None
        if not isinstance(text, str):
            return failed_caption("server", f"not a chat completion: {answer.shown()}")
        reason = choice.get("finish_reason")
        reason = whole(reason) if isinstance(reason, str) else None
        return parse_caption(text, self.task, finish_reason=reason, tokens=_tokens(said.get("usage")))


def _tokens(usage: Any) -> int | None:
    """The tokens of an answer, where the server counts them as a table can hold it."""
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and 0 <= tokens < 2**63 else None


def _image_part(image: Any) -> Message:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}
