"""What every answer of the page's server has in common, and how a request's body and numbers are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pipeline.errors import FusionError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DIGITS = 9  # Python refuses to read thousands of them
Answering = Callable[[Any, Request], Awaitable[Response]]


def answers(method: Answering) -> Answering:
    """Adds the safety headers, refuses other sites' requests, and says expected failures in one sentence.

    They are answers with ``problem`` in them: ordinary ones below /api, where browsers would write every 4xx to the
    console; with a status of 400 elsewhere, where a browser would show or save them as the file that was asked for.
    """

    @wraps(method)
    async def answer(self: Any, request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin and origin.partition("://")[2] != request.headers.get("host"):
            return Response("another site asked", status_code=403)
        try:
            response = await method(self, request)
        except FusionError as error:
            asked = request.url.path.startswith("/api/")
            response = JSONResponse({"problem": str(error)}, status_code=200 if asked else 400)
        except ClientDisconnect:
            response = Response(status_code=400)  # which nobody reads
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    return answer


async def receive(request: Request, path: Path, limit: int) -> bool:
    """Write the body to ``path``; False as soon as it is, or says it will be, longer than ``limit`` bytes."""
    announced = request.headers.get("content-length", "0")
    if number(announced, limit + 1) > limit:
        return False
    received = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                return False
            file.write(chunk)
    return True


def number(text: str, otherwise: int) -> int:
    """A whole number of at most DIGITS digits; ``otherwise`` for any other text."""
    return int(text) if text.isdecimal() and len(text) <= DIGITS else otherwise
