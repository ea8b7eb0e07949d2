"""The server captioner against a real HTTP server that fails on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chat_server import ANSWER, TASK, Reply, Server, captioner, completion, requests
from pipeline.captioners.server import EndpointsGone, ServerSettings
from pipeline.errors import InputError


def test_a_request_shows_both_images_labelled_and_asks_for_the_tasks_schema(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (200, completion(json.dumps(ANSWER))))
    (caption,) = captioner(server.url).caption(requests(1))
    assert [event.type for event in caption.events] == ["low_light", "clean"]
    assert caption.tokens == 7 and caption.finish_reason == "stop"
    (body,) = server.bodies
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "text", "image_url", "text"]
    assert "visible" in parts[0]["text"] and "infrared" in parts[2]["text"]
    assert body["response_format"]["json_schema"]["schema"] == TASK.schema()


def test_a_pixel_budget_is_sent_only_where_it_was_set(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (200, completion(json.dumps(ANSWER))))
    plain, bounded = captioner(server.url), captioner(server.url, max_pixels=784)
    for one in (plain, bounded):
        one.caption(requests(1))
    assert "mm_processor_kwargs" not in server.bodies[0]
    assert server.bodies[1]["mm_processor_kwargs"] == {"max_pixels": 784}
    assert plain.fingerprint()["max_pixels"] is None and bounded.fingerprint()["max_pixels"] == 784


def test_busy_and_broken_answers_are_tried_again(serve: Callable[[Reply], Server]) -> None:
    server = serve(
        lambda number, body: (
            (200, completion(json.dumps(ANSWER))) if number > 3 else ((429, 500, 503)[number - 1], "busy")
        )
    )
    (caption,) = captioner(server.url).caption(requests(1))
    assert caption.error_kind is None and len(server.bodies) == 4


def test_a_refusal_is_a_failed_row_with_its_reason_and_is_not_repeated(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (400, "image too large"))
    (caption,) = captioner(server.url).caption(requests(1))
    assert caption.error_kind == "refused" and "image too large" in str(caption.error)
    assert len(server.bodies) == 1


def test_order_is_kept_and_concurrency_bounded_over_several_endpoints(serve: Callable[[Reply], Server]) -> None:
    def slow(number: int, body: dict[str, Any]) -> tuple[int, str]:
        threading.Event().wait(0.02)
        return 200, completion(json.dumps(ANSWER))

    servers = serve(slow), serve(slow)
    captions = captioner(*(server.url for server in servers), concurrency=3).caption(requests(24))
    assert len(captions) == 24 and all(caption.error_kind is None for caption in captions)
    assert all(server.bodies for server in servers)
    assert max(server.most for server in servers) <= 3


def test_a_dead_endpoint_is_left_for_a_living_one(serve: Callable[[Reply], Server]) -> None:
    alive = serve(lambda number, body: (200, completion(json.dumps(ANSWER))))
    captions = captioner("http://127.0.0.1:9/v1", alive.url, breaker=2, concurrency=2).caption(requests(12))
    assert all(caption.error_kind is None for caption in captions)


def test_only_failures_in_a_row_declare_an_endpoint_gone(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (503, "busy") if number % 2 else (200, completion(json.dumps(ANSWER))))
    captions = captioner(server.url, breaker=2, concurrency=1).caption(requests(6))
    assert all(caption.error_kind is None for caption in captions) and len(server.bodies) == 12


def test_another_model_revision_budget_or_length_is_another_fingerprint() -> None:
    plain: dict[str, Any] = {"name": "server", "model": "m", "revision": None, "min_pixels": None, "max_pixels": None}
    plain |= {"max_tokens": 512, "temperature": 0.0, "engine": "openai-compatible server"}
    assert captioner("http://localhost:1/v1").fingerprint() == plain
    for change in ({"revision": "abc"}, {"min_pixels": 784}, {"max_pixels": 784}, {"max_tokens": 64}):
        assert captioner("http://localhost:2/v1", **change).fingerprint() == plain | change


def test_when_all_endpoints_are_gone_the_run_stops_and_says_so() -> None:
    with pytest.raises(EndpointsGone, match="finished shards are kept"):
        captioner("http://127.0.0.1:9/v1", breaker=3, attempts=10).caption(requests(4))


def test_a_server_that_sends_elsewhere_stops_the_run_and_says_where(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (308, "", ("Location", "https://elsewhere/v1")))
    with pytest.raises(EndpointsGone, match="HTTP 308: moved to https://elsewhere/v1"):
        captioner(server.url, concurrency=1).caption(requests(20))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_stops_the_run_instead_of_failing_every_pair(
    serve: Callable[[Reply], Server], status: int
) -> None:
    server = serve(lambda number, body: (status, "the model `goood` does not exist"))
    with pytest.raises(EndpointsGone, match=f"HTTP {status}: the model `goood` does not exist"):
        captioner(server.url, concurrency=1).caption(requests(20))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("name", ["concurrency", "attempts", "breaker", "max_tokens"])
def test_a_setting_below_one_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=0: at least 1"):
        captioner("http://localhost:1/v1", **{name: 0})


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout", 0.0), ("timeout", -1.0), ("timeout", float("nan")), ("backoff", -1.0), ("backoff", 1e999)],
)
def test_a_time_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}={value}: "):
        ServerSettings(urls=("http://localhost:1/v1",), model="m", **{name: value})


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "“quoted”"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="api_key: ") as caught:
        captioner("http://localhost:1/v1", api_key=key)
    assert key not in str(caught.value)
