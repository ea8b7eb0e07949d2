"""A real HTTP server that speaks the chat protocol as it is told to, and a captioner that asks it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from pipeline.captioners.base import CaptionRequest
from pipeline.captioners.server import ServerCaptioner, ServerSettings
from pipeline.images import Picture
from pipeline.task_file import load_task

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
                try:
                    for part in [content.encode()] if isinstance(content, str) else content:
                        self.wfile.write(part)
                except OSError:
                    pass  # the client has heard enough

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def requests(number: int) -> list[CaptionRequest]:
    picture = Picture(pixels=np.full((32, 40), 90, dtype=np.uint8))
    return [CaptionRequest(key=f"k{n}", pair_id=str(n), first=picture, second=picture) for n in range(number)]


def captioner(*urls: str, **settings: Any) -> ServerCaptioner:
    return ServerCaptioner(TASK, ServerSettings(urls=urls, model="m", backoff=0.001, **settings))
