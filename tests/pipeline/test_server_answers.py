"""What the server captioner makes of odd answers: nonsense, endless, dripping, packed, busy."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chat_server import ANSWER, Reply, Server, captioner, completion, requests
from command_line import REPOSITORY, heeding
from pipeline.captioners.server import EndpointsGone


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


@pytest.mark.parametrize(
    "garbled", [("no gzip at all", ("Content-Encoding", "gzip")), ("{", ("Content-Length", "900"))]
)
def test_an_answer_garbled_on_its_way_is_asked_for_again(
    serve: Callable[[Reply], Server], garbled: tuple[Any, ...]
) -> None:
    good = completion(json.dumps(ANSWER))
    server = serve(lambda number, body: (200, *garbled) if number == 1 else (200, good))
    (caption,) = captioner(server.url).caption(requests(1))
    assert caption.error_kind is None and len(server.bodies) == 2


def test_a_busy_server_is_left_alone_as_long_as_it_asks(serve: Callable[[Reply], Server]) -> None:
    """One that says so is well: it is not taken for gone however often it says so."""
    times: list[float] = []

    def reply(number: int, body: dict[str, Any]) -> tuple[Any, ...]:
        times.append(time.monotonic())
        return (429, "", ("Retry-After", "1")) if number == 1 else (200, completion(json.dumps(ANSWER)))

    (caption,) = captioner(serve(reply).url).caption(requests(1))
    assert caption.error_kind is None and times[1] - times[0] >= 1
    busy = serve(lambda number, body: (429, "") if number % 4 else (200, completion(json.dumps(ANSWER))))
    captions = captioner(busy.url, breaker=2, concurrency=1).caption(requests(6))
    assert all(caption.error_kind is None for caption in captions) and len(busy.bodies) == 24
    with pytest.raises(EndpointsGone, match="HTTP 429"):
        captioner(serve(lambda number, body: (429, "no quota")).url, breaker=2, attempts=2, concurrency=1).caption(
            requests(6)
        )


def test_an_answer_without_end_is_cut_off(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (200, (b" " * (1 << 20) for _ in count())))
    (caption,) = captioner(server.url, attempts=2).caption(requests(1))
    assert "an answer of more than 4 MiB" in str(caption.error)
    assert len(server.bodies) == 2


def test_a_packed_answer_is_not_unpacked(serve: Callable[[Reply], Server]) -> None:
    """A megabyte could become a gigabyte."""
    packed = gzip.compress(completion(json.dumps(ANSWER)).encode())
    server = serve(lambda number, body: (200, [packed], ("Content-Encoding", "gzip")))
    (caption,) = captioner(server.url, attempts=1).caption(requests(1))
    assert "packed by gzip" in str(caption.error)


def test_an_answer_that_drips_is_given_up(serve: Callable[[Reply], Server]) -> None:
    drops = (b" " for _ in iter(lambda: time.sleep(0.05), 0))
    server = serve(lambda number, body: (200, drops))
    began = time.monotonic()
    (caption,) = captioner(server.url, attempts=1, timeout=0.5).caption(requests(1))
    assert "no whole answer after 0.5 seconds" in str(caption.error)
    assert time.monotonic() - began < 5


def test_no_control_character_of_an_answer_reaches_the_terminal(serve: Callable[[Reply], Server]) -> None:
    server = serve(lambda number, body: (400, "\x1b]0;title\x07 too large"))
    (caption,) = captioner(server.url).caption(requests(1))
    assert caption.error == "HTTP 400: ]0;title too large"
    (empty,) = captioner(serve(lambda number, body: (204, "")).url).caption(requests(1))
    assert empty.error == "HTTP 204: an empty answer"


def test_ctrl_c_does_not_wait_for_an_answer(serve: Callable[[Reply], Server], tmp_path: Path, draw_pairs: Any) -> None:
    asked, ended = threading.Event(), threading.Event()

    def never(number: int, body: dict[str, Any]) -> tuple[int, str]:
        asked.set()
        ended.wait(60)
        return 200, ""

    first, second = draw_pairs(3)
    command = ["-m", "cli", "caption", "--pairs", first, second, "--store", tmp_path / "s", "--captioner", "server"]
    command += ["--url", serve(never).url, "--model", "m", "--embedder", "hashing"]
    running = subprocess.Popen(
        [sys.executable, *command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
    )
    try:
        assert asked.wait(60)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=20)
    finally:
        running.kill()
        ended.set()
    assert running.returncode == 130 and said.endswith("fusioncli: interrupted\n")
