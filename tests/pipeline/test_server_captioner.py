"""The server captioner against a real HTTP server that fails on purpose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.server import EndpointsGone, ServerCaptioner, ServerSettings
from pipeline.errors import InputError
from pipeline.images import Picture
from pipeline.tasks import load_task

TASK = load_task("ivf")
ANSWER = {
    "scene": "a street",
    "visible": [{"type": "low_light", "severity": "severe", "description": "dark"}],
    "infrared": [{"type": "clean", "severity": "none", "description": ""}],
}
Reply = Callable[[int, dict[str, Any]], tuple[Any, ...]]  # status, content, and headers as (name, value)


def completion(text: str, reason: str = "stop") -> str:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": {"completion_tokens": 7}})


class Server:
    """Counts its requests and answers as ``reply`` says."""

    def __init__(self, reply: Reply) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most = 0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.bodies.append(body)
                    number = len(outer.bodies)
                    outer.running += 1
                    outer.most = max(outer.most, outer.running)
                status, content, *headers = reply(number, body)
                with lock:
                    outer.running -= 1
                self.send_response(status)
                for header in headers:
                    self.send_header(*header)
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], Server]]:
    servers: list[Server] = []

    def start(reply: Reply) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()


def requests(number: int) -> list[CaptionRequest]:
    picture = Picture(pixels=np.full((32, 40), 90, dtype=np.uint8))
    return [CaptionRequest(key=f"k{n}", pair_id=str(n), first=picture, second=picture) for n in range(number)]


def captioner(*urls: str, **settings: Any) -> ServerCaptioner:
    return ServerCaptioner(TASK, ServerSettings(urls=urls, model="m", backoff=0.001, **settings))


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


def test_nonsense_is_a_failed_row(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (200, "<html>" if number == 1 else completion("I see a cat", "length")))
    first, second = captioner(server.url, concurrency=1).caption(requests(2))
    assert first.error_kind == "server"
    assert second.error_kind == "unparsable" and second.raw == "I see a cat"


@pytest.mark.parametrize("content", [5, [{"type": "text", "text": "x"}], ANSWER, float("nan")])
def test_content_that_is_no_text_is_a_failed_row(serve: Callable[[Reply], Server], content: Any) -> None:
    server = serve(lambda number, body: (200, completion(content) if number == 1 else completion(json.dumps(ANSWER))))
    first, second = captioner(server.url, concurrency=1).caption(requests(2))
    assert first.error_kind == "server" and "not a chat completion" in str(first.error)
    assert second.error_kind is None


def test_an_answer_nested_without_end_is_a_failed_row(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (200, "[" * 200_000))
    assert captioner(server.url).caption(requests(1))[0].error_kind == "server"


@pytest.mark.parametrize("tokens", ["12", 12.5, 10**30, -1, True, [1]])
@pytest.mark.parametrize("reason", [3, ["stop"], "half \ud83d"])
def test_odd_bookkeeping_beside_a_good_answer_does_not_cost_it(
    serve: Callable[[Reply], Server], tokens: Any, reason: Any
) -> None:
    answer = json.loads(completion(json.dumps(ANSWER), reason))
    for usage in ({"completion_tokens": tokens}, tokens):
        content = json.dumps({**answer, "usage": usage})
        (caption,) = captioner(serve(lambda number, body, said=content: (200, said)).url).caption(requests(1))
        assert [event.type for event in caption.events] == ["low_light", "clean"]
        assert caption.tokens is None
        assert caption.finish_reason in (None, "half ?")


def test_an_answer_garbled_on_its_way_is_asked_for_again(serve: Callable[[Reply], Server]) -> None:
    good = completion(json.dumps(ANSWER))
    garbled = 200, "no gzip at all", ("Content-Encoding", "gzip")
    server = serve(lambda number, body: garbled if number == 1 else (200, good))
    (caption,) = captioner(server.url).caption(requests(1))
    assert caption.error_kind is None and len(server.bodies) == 2


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
