"""A model hub small enough for a test: the part of the Hub's HTTP interface that its client uses to push and to fetch."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_drawn"  # what a client has to present


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory: name -> path -> content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.fetched: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, value: Any, status: int = 200) -> None:
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.say({"error": "Invalid credentials"}, 401)
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            self.server.repositories.setdefault(name, {})
            self.say({"url": f"{self.server.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.say({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.say({"files": files})
        elif "/commit/" in self.path:
            name = self.path.removeprefix("/api/models/").split("/commit/")[0]
            files = self.server.repositories[name]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = "a" * 40
            self.say({"commitUrl": f"{self.server.address}/{name}/commit/{oid}", "commitOid": oid, "success": True})
        else:
            self.say({"error": f"no {self.path}"}, 404)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.fetched.append(path)
        name = (
            path.removeprefix("/api/models/").split("/revision/")[0].split("/resolve/")[0].split("/tree/")[0].strip("/")
        )
        files = self.server.repositories.get(name)
        if files is None:
            self.answer(404, b"", X_Error_Code="RepoNotFound")
        elif "/tree/" in path:
            self.say([{"type": "file", "path": p, "size": len(c), "oid": _digest(c)} for p, c in files.items()])
        elif "/resolve/" in path:
            content = files.get(path.split("/resolve/")[1].split("/", 1)[1])
            if content is None:
                self.answer(404, b"", X_Error_Code="EntryNotFound")
            else:
                self.answer(200, content, ETag=f'"{_digest(content)}"', X_Repo_Commit="a" * 40)
        else:
            siblings = [{"rfilename": path} for path in files]
            self.say({"id": name, "modelId": name, "sha": "a" * 40, "siblings": siblings, "tags": []})

    do_HEAD = do_GET


@contextmanager
def serve() -> Iterator[Hub]:
    """A running hub on a free port."""
    hub = Hub()
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
