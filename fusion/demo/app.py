"""The page's server: what it answers, to whom, and how much it takes. Every file it hands out is named in advance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fusion.alignment import KINDS
from fusion.demo.browser import StoreBrowser
from fusion.demo.films import can_fuse_films, check_film_upload, fuse_films
from fusion.demo.samples import Sample, take_sample
from fusion.demo.shelf import Item, Shelf
from fusion.demo.workbench import TILES, Choice, Workbench
from fusion.engines import ENGINES
from fusion.inference import SUFFIXES
from pipeline.errors import FusionError, InputError

MEBIBYTE = 2**20
LOCAL = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = (  # a report is one file with its script and pictures inside; it may reach nothing else
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; frame-ancestors 'self'; sandbox allow-scripts"
)
PARTS = {"demo.css": "text/css", "demo.js": "text/javascript"}
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the page offers. ``weights``: name -> what ``load_weights`` takes, the first one chosen to begin with.

    ``reports``: title -> one HTML file each. ``hosts``: names under which the page may be asked for; "*" for any.
    """

    weights: Mapping[str, str]
    samples: Sequence[Sample] = ()
    stores: Sequence[str] = ()
    reports: Mapping[str, Path] = field(default_factory=dict)
    hosts: Sequence[str] = LOCAL
    limit_mib: int = 32


def build_app(options: DemoOptions, shelf: Shelf) -> Starlette:
    """The application. Raises StoreError for a store that cannot be opened."""
    desk = Desk(options, shelf)
    routes = [
        Route("/", desk.page),
        Route("/{part:str}", desk.part),
        Route("/api/setup", desk.setup),
        Route("/api/upload", desk.upload, methods=["POST"]),
        Route("/api/sample/{number:int}", desk.sample, methods=["POST"]),
        Route("/api/fuse", desk.fuse, methods=["POST"]),
        Route("/api/video", desk.fuse_video, methods=["POST"]),
        Route("/video/{token:str}", desk.video),
        Route("/api/store/{number:int}", desk.store),
        Route("/picture/{token:str}", desk.picture),
        Route("/download/{token:str}", desk.download),
        Route("/store/{number:int}/{side:int}/{key:str}", desk.store_picture),
        Route("/report/{number:int}", desk.report),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(options.hosts))])


def answers(method: Callable[[Desk, Request], Awaitable[Response]]) -> Callable[[Desk, Request], Awaitable[Response]]:
    """Adds the safety headers, refuses other sites' requests, and says expected failures in one sentence.

    They are answers with ``problem`` in them: ordinary ones below /api, where browsers would write every 4xx to the
    console; with a status of 400 elsewhere, where a browser would show or save them as the file that was asked for.
    """

    @wraps(method)
    async def answer(self: Desk, request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).netloc != request.headers.get("host"):
            return Response("another site asked", status_code=403)
        try:
            response = await method(self, request)
        except FusionError as error:
            asked = request.url.path.startswith("/api/")
            response = JSONResponse({"problem": str(error)}, status_code=200 if asked else 400)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    return answer


class Desk:
    """Answers requests. Work that computes runs in threads, so the page stays alive meanwhile."""

    def __init__(self, options: DemoOptions, shelf: Shelf) -> None:
        self.options = options
        self.shelf = shelf
        self.bench = Workbench(shelf, options.weights)
        self.stores = [StoreBrowser(location) for location in options.stores]
        self.reports = list(options.reports.items())

    @answers
    async def page(self, request: Request) -> Response:
        return HTMLResponse(_part("demo.html"))

    @answers
    async def part(self, request: Request) -> Response:
        name = request.path_params["part"]
        if name == "report.css":
            report = resources.files("fusion.report") / "page.css"
            return Response(report.read_text(encoding="utf-8"), media_type="text/css")
        if name not in PARTS:
            return Response("no such page", status_code=404)
        return Response(_part(name), media_type=PARTS[name])

    @answers
    async def setup(self, request: Request) -> Response:
        """What can be chosen."""
        return JSONResponse(
            {
                "weights": list(self.options.weights),
                "engines": ["torch", *ENGINES],
                "tiles": TILES,
                "aligns": KINDS,
                "formats": list(SUFFIXES),
                "samples": [sample.title for sample in self.options.samples],
                "stores": [browser.store.name for browser in self.stores],
                "reports": [title for title, _ in self.reports],
                "video": can_fuse_films(),
                "limit": self.options.limit_mib * MEBIBYTE,
            }
        )

    @answers
    async def upload(self, request: Request) -> Response:
        """A file as the request's body, its name in ``?name=``; ``?kind=video`` for a video. Answers its token."""
        item = self.shelf.place(request.query_params.get("name", "image"))
        if not await _receive(request, item.path, self.options.limit_mib * MEBIBYTE):
            self.shelf.drop(item)
            return JSONResponse(
                {"problem": f"{item.name}: over {self.options.limit_mib} MiB"},
                status_code=413,
                headers={"Connection": "close"},
            )
        try:
            if request.query_params.get("kind") == "video":
                check_film_upload(item)
                return JSONResponse({"token": item.token, "name": item.name})
            return JSONResponse(await run_in_threadpool(self._described, item))
        except FusionError:
            self.shelf.drop(item)
            raise

    @answers
    async def sample(self, request: Request) -> Response:
        """Put a sample's two images on the shelf."""
        number = request.path_params["number"]
        if number >= len(self.options.samples):
            raise InputError(f"no sample {number}")
        items = await run_in_threadpool(take_sample, self.shelf, self.options.samples[number])
        return JSONResponse([self._described(item) for item in items])

    @answers
    async def fuse(self, request: Request) -> Response:
        """Fuse ``first`` and ``second`` (tokens) by ``weights``, ``engine`` and ``tile``, brought together by ``align``."""
        choice = self._choice(request)
        first, second = self._given(request)
        fused = await run_in_threadpool(
            self.bench.fuse, first, second, choice, request.query_params.get("align") or None
        )
        return JSONResponse(
            {
                "token": fused.item.token,
                "name": fused.item.name,
                "height": fused.height,
                "width": fused.width,
                "milliseconds": round(fused.milliseconds, 1),
                "scores": fused.scores,
                "sources": [{"token": item.token, "name": item.name} for item in fused.sources],
            }
        )

    @answers
    async def fuse_video(self, request: Request) -> Response:
        """Fuse two uploaded videos by ``weights``."""
        choice = self._choice(request)
        first, second = self._given(request)
        fused = await run_in_threadpool(self.bench.borrow, choice, partial(fuse_films, self.shelf, first, second))
        return JSONResponse({"token": fused.item.token, "name": fused.item.name, "facts": fused.facts})

    @answers
    async def video(self, request: Request) -> Response:
        """A fused video, to play or with ``?download=1`` to keep."""
        item = self.shelf.find(request.path_params["token"])
        if item.path.suffix != ".mp4":
            raise InputError(f"{item.name}: not a fused video")
        name = item.name if request.query_params.get("download") else None
        return FileResponse(item.path, media_type="video/mp4", filename=name)

    @answers
    async def picture(self, request: Request) -> Response:
        """An uploaded or fused image as the browser can show it."""
        shown = await run_in_threadpool(self.bench.preview, self.shelf.find(request.path_params["token"]))
        return FileResponse(shown.path, media_type="image/png")

    @answers
    async def download(self, request: Request) -> Response:
        """A fused image in the format ``?format=.png``."""
        item = self.shelf.find(request.path_params["token"])
        suffix = request.query_params.get("format", ".png")
        path = await run_in_threadpool(self.bench.download, item, suffix)
        return FileResponse(path, filename=Path(item.name).with_suffix(suffix).name)

    @answers
    async def store(self, request: Request) -> Response:
        """A page of a store's pairs."""
        asked = request.query_params
        number = asked.get("page", "0")
        browser = self._store(request)
        page = int(number) if number.isdecimal() else 0
        return JSONResponse(await run_in_threadpool(browser.page, page, asked.get("event", ""), asked.get("prior", "")))

    @answers
    async def store_picture(self, request: Request) -> Response:
        """One image of a store's pair."""
        asked = request.path_params
        content = await run_in_threadpool(self._store(request).picture, asked["key"], asked["side"])
        return Response(content, media_type="image/png")

    @answers
    async def report(self, request: Request) -> Response:
        """A benchmark's page, shut off from everything but itself."""
        number = request.path_params["number"]
        if number >= len(self.reports):
            return Response("no such report", status_code=404)
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return FileResponse(self.reports[number][1], media_type="text/html", headers=headers)

    def _choice(self, request: Request) -> Choice:
        asked = request.query_params
        tile = asked.get("tile", "0")
        return Choice(
            weights=asked.get("weights", next(iter(self.options.weights))),
            engine=asked.get("engine", "torch"),
            tile=int(tile) if tile.isdecimal() else -1,
        )

    def _given(self, request: Request) -> tuple[Item, Item]:
        first, second = (self.shelf.find(request.query_params.get(name, "")) for name in ("first", "second"))
        return first, second

    def _described(self, item: Item) -> dict[str, Any]:
        height, width = self.bench.check_image(item)
        return {"token": item.token, "name": item.name, "height": height, "width": width}

    def _store(self, request: Request) -> StoreBrowser:
        number: int = request.path_params["number"]
        if number >= len(self.stores):
            raise InputError(f"no store {number}")
        return self.stores[number]


async def _receive(request: Request, path: Path, limit: int) -> bool:
    """Write the body to ``path``; False as soon as it is, or says it will be, longer than ``limit`` bytes."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > limit:
        return False
    received = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                return False
            file.write(chunk)
    return True


def _part(name: str) -> str:
    return (resources.files("fusion.demo") / name).read_text(encoding="utf-8")
