"""One request to a captioning server, whose answer may neither grow nor last without end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

LONGEST_BODY = 4 << 20  # bytes; a caption has a few thousand
LONGEST_WAIT = 60.0  # seconds that a server may ask to be left alone


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server said. ``location``: where it sends elsewhere; ``wait``: seconds it asks to be left alone."""

    status: int
    body: bytes
    location: str | None = None
    wait: float = 0.0

    def shown(self) -> str:
        """The body's beginning as an error quotes it."""
        return " ".join(self.body[:500].decode("utf-8", "replace").split()) or "an empty answer"


async def post(client: httpx.AsyncClient, url: str, body: dict[str, Any], timeout: float) -> Answer:
    """Post ``body`` as JSON and ask for an answer that is not packed: a packed one may unpack to gigabytes.

    Raises what httpx raises: also ReadError for an answer of more than LONGEST_BODY bytes or one that is packed all the
    same, and ReadTimeout for one that is not whole within ``timeout`` seconds, however steadily it drips.
    """
    import httpx

    try:
        async with (
            asyncio.timeout(timeout),
            client.stream("POST", url, json=body, headers={"Accept-Encoding": "identity"}) as response,
        ):
            packing = response.headers.get("Content-Encoding", "identity")
            if packing != "identity":
                raise httpx.ReadError(f"an answer packed by {packing}, which was not asked for")
            content = bytearray()
            async for part in response.aiter_raw():
                content += part
                if len(content) > LONGEST_BODY:
                    raise httpx.ReadError(f"an answer of more than {LONGEST_BODY >> 20} MiB")
            return Answer(
                status=response.status_code,
                body=bytes(content),
                location=response.headers.get("Location") if response.is_redirect else None,
                wait=_seconds(response.headers.get("Retry-After", "")),
            )
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"no whole answer after {timeout:g} seconds") from error


def _seconds(text: str) -> float:
    """The seconds of a Retry-After, at most LONGEST_WAIT; none for a date or nonsense."""
    return min(float(text), LONGEST_WAIT) if text.isascii() and text.isdigit() else 0.0
