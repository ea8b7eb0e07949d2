"""The page's server: what it answers, to whom, and how much it takes. Every file it hands out is named in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fusion.alignment import KINDS, Fit
from fusion.demo.answering import answers, number, receive
from fusion.demo.browser import StoreBrowser
from fusion.demo.films import SECONDS, can_fuse_films, film_kind, fuse_films
from fusion.demo.samples import Sample, take_sample
from fusion.demo.shelf import GONE, Item, Shelf
from fusion.demo.wording import page_words
from fusion.demo.workbench import TILES, Choice, Workbench
from fusion.engines import ENGINES
from fusion.fused_image import SUFFIXES
from pipeline.errors import FusionError, InputError

MEBIBYTE = 2**20
LOCAL = ("127.0.0.1", "localhost", "[::1]")
REPORT_POLICY = (  # a report is one file with its script and pictures inside; it may reach nothing else
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; frame-ancestors 'self'; sandbox allow-scripts"
)
Thing = TypeVar("Thing")
PARTS = {"demo.css": "text/css", "demo.js": "text/javascript"}


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
        Route("/api/sample/{number:str}", desk.sample, methods=["POST"]),
        Route("/api/fuse", desk.fuse, methods=["POST"]),
        Route("/api/video", desk.fuse_video, methods=["POST"]),
        Route("/video/{token:str}", desk.video),
        Route("/api/store/{number:str}", desk.store),
        Route("/picture/{token:str}", desk.picture),
        Route("/download/{token:str}", desk.download),
        Route("/store/{number:str}/{side:str}/{key:str}", desk.store_picture),
        Route("/report/{number:str}", desk.report),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(options.hosts))])


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
                "stores": [browser.name for browser in self.stores],
                "reports": [title for title, _ in self.reports],
                "video": can_fuse_films(),
                "seconds": SECONDS,
                "limit": self.options.limit_mib * MEBIBYTE,
            }
        )

    @answers
    async def upload(self, request: Request) -> Response:
        """A file as the request's body, its name in ``?name=``; ``?kind=video`` for a video. Answers its token."""
        item = self.shelf.place(request.query_params.get("name", "image"))
        try:
            if not await receive(request, item.path, self.options.limit_mib * MEBIBYTE):
                self.shelf.drop(item)
                too_long = {"problem": f"{item.name}: over {self.options.limit_mib} MiB"}
                return JSONResponse(too_long, status_code=413, headers={"Connection": "close"})
            if request.query_params.get("kind") == "video":
                film_kind(item)
                return JSONResponse({"token": item.token, "name": item.name})
            return JSONResponse(await run_in_threadpool(self._described, item))
        except FileNotFoundError as error:  # thrown out by later ones while it came in
            raise InputError(GONE) from error
        except (FusionError, ClientDisconnect, OSError):
            self.shelf.drop(item)
            raise

    @answers
    async def sample(self, request: Request) -> Response:
        """Put a sample's two images on the shelf."""
        items = await run_in_threadpool(take_sample, self.shelf, _asked_for(request, self.options.samples, "sample"))
        return JSONResponse([await run_in_threadpool(self._described, item) for item in items])

    @answers
    async def fuse(self, request: Request) -> Response:
        """Fuse ``first`` and ``second`` (tokens) by ``weights``, ``engine`` and ``tile``, brought together by ``align`` and ``resize``."""
        choice = self._choice(request)
        first, second = self._given(request)
        fused = await run_in_threadpool(self.bench.fuse, first, second, choice, _fit(request))
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
        """Fuse two uploaded videos by ``weights``, brought together by ``align`` and ``resize``."""
        choice = self._choice(request)
        first, second = self._given(request)
        fused = await run_in_threadpool(
            self.bench.borrow, choice, partial(fuse_films, self.shelf, first, second, _fit(request))
        )
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
        browser, page = _asked_for(request, self.stores, "store"), number(asked.get("page", ""), 0)
        return JSONResponse(await run_in_threadpool(browser.page, page, asked.get("event", ""), asked.get("prior", "")))

    @answers
    async def store_picture(self, request: Request) -> Response:
        """One image of a store's pair."""
        asked, browser = request.path_params, _asked_for(request, self.stores, "store")
        content = await run_in_threadpool(browser.picture, asked["key"], number(asked["side"], -1))
        return Response(content, media_type="image/png")

    @answers
    async def report(self, request: Request) -> Response:
        """A benchmark's page, shut off from everything but itself."""
        title, path = _asked_for(request, self.reports, "report")
        if not path.is_file():
            raise InputError(f"{title}: the benchmark's page is no longer there; `fusioncli bench` makes it again")
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    def _choice(self, request: Request) -> Choice:
        asked = request.query_params
        return Choice(
            weights=asked.get("weights", next(iter(self.options.weights))),
            engine=asked.get("engine", "torch"),
            tile=number(asked.get("tile", "0"), -1),
        )

    def _given(self, request: Request) -> tuple[Item, Item]:
        first, second = (self.shelf.find(request.query_params.get(name, "")) for name in ("first", "second"))
        return first, second

    def _described(self, item: Item) -> dict[str, Any]:
        height, width = self.bench.check_image(item)
        return {"token": item.token, "name": item.name, "height": height, "width": width}


def _fit(request: Request) -> Fit:
    """What may be done to the pair. Raises InputError."""
    asked = request.query_params
    with page_words({}):
        return Fit(align=asked.get("align") or None, resize=asked.get("resize") == "true")


def _asked_for(request: Request, things: Sequence[Thing], what: str) -> Thing:
    """The one whose number stands in the path. Raises InputError."""
    asked = number(request.path_params["number"], len(things))
    if asked >= len(things):
        raise InputError(f"no {what} of that number; there are {len(things)}")
    return things[asked]


def _part(name: str) -> str:
    return (resources.files("fusion.demo") / name).read_text(encoding="utf-8")
