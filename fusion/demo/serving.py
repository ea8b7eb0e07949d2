"""Putting the page up: what it offers is gathered from names and folders, then served until interrupted."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fusion.default_weights import default_weights
from fusion.weights import CONFIG, find_weights, is_hub_id, shipped_names
from pipeline.errors import FusionError, InputError, MissingPackage
from pipeline.store import Store

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, docker stop or systemd, a closed terminal
PATIENCE = 1.0  # seconds that whatever runs when the page ends has to finish


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the command line asked for; empty parts are filled from what lies around (runs/, stores/, bench/)."""

    weights: Sequence[str] = ()
    samples: tuple[Path, Path] | None = None
    stores: Sequence[str] = ()
    reports: Sequence[Path] = ()
    host: str = "127.0.0.1"
    port: int = 7860
    limit_mib: int = 32


def serve(offer: Offer) -> None:
    """Serve the page until one of ENDINGS. Raises InputError (port taken, no such file), WeightsError, StoreError."""
    try:
        import uvicorn

        from fusion.demo.app import LOCAL, DemoOptions, build_app
    except ImportError as error:
        raise MissingPackage("the demo needs starlette and uvicorn: pip install 'fusioncli[demo]'") from error
    from fusion.demo.samples import list_samples
    from fusion.demo.shelf import Shelf
    from pipeline.console import note

    _check_port(offer.host, offer.port)
    options = DemoOptions(
        weights=choose_weights(offer.weights),
        samples=list_samples(offer.samples),
        stores=offer.stores or choose_stores(),
        reports=choose_reports(offer.reports),
        hosts=LOCAL if offer.host in LOOPBACK else ("*",),
        limit_mib=offer.limit_mib,
    )
    _on_endings(signal.default_int_handler)
    shelf = Shelf()
    try:
        config = uvicorn.Config(
            build_app(options, shelf),
            host=offer.host,
            port=offer.port,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
        note(f"open http://{_address(offer.host)}:{offer.port} (Ctrl-C ends it)")
        if offer.host not in LOOPBACK:
            note(f"{offer.host}: whoever reaches this machine's port {offer.port} can use the page; there is no login")
        idle = _run(uvicorn.Server(config))
    finally:
        _on_endings(signal.SIG_IGN)
        shelf.close()
    if not idle:
        os._exit(0)  # a network that is fusing cannot be told to stop


def _address(host: str) -> str:
    """What this machine's browser reaches a server on ``host`` by."""
    if host in (*LOOPBACK, "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _run(server: uvicorn.Server) -> bool:
    """Serve in a thread until one of ENDINGS comes; whether everything that was asked for had ended PATIENCE later."""
    from pipeline.console import note

    ended = threading.Event()  # a thread's join must not be interrupted: Python then takes the thread for ended

    def serve_on() -> None:
        try:
            server.run()
        finally:
            ended.set()

    threading.Thread(target=serve_on, daemon=True).start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        _on_endings(signal.SIG_IGN)
        note("ending; what was given to the page is deleted")
    else:
        raise FusionError("the page's server ended by itself; start it again")
    server.should_exit = True
    return ended.wait(PATIENCE)


def _on_endings(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Have all ENDINGS that the caller of this process has not shut out (nohup does) answered alike."""
    for name in ENDINGS:
        number = getattr(signal, name, None)  # Windows knows no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def choose_weights(named: Sequence[str]) -> dict[str, str]:
    """The named weights, or the shipped ones and every run in runs/; the default first. Raises WeightsError."""
    if named:
        for name in named:
            if not is_hub_id(name):  # which is fetched when it is chosen
                find_weights(name)
        return {name: name for name in named}
    found = [*shipped_names(), *(str(path.parent) for path in sorted(Path("runs").glob(f"*/{CONFIG}")))]
    first, _ = default_weights()
    return {name: name for name in sorted(found, key=lambda name: name != first)}


def choose_stores() -> list[str]:
    """The stores in stores/; one that cannot be opened is left out with a note, since nobody named it."""
    from pipeline.console import note

    found = []
    for path in sorted(Path("stores").glob("*/store.json")):
        try:
            Store.open(path.parent)
            found.append(str(path.parent))
        except FusionError as error:
            note(f"left out: {error}")
    return found


def choose_reports(named: Sequence[Path]) -> dict[str, Path]:
    """HTML files by title: those named (a file, or a folder with index.html), else bench/ and quickstart/ if there."""
    pages = [path / "index.html" if path.is_dir() else path for path in named]
    for page in pages:
        if not page.is_file():
            raise InputError(f"{page}: no such file; give the folder that `fusioncli bench --out` wrote")
        if page.suffix != ".html":
            raise InputError(f"{page}: not a benchmark's page; expected an .html file")
    if not named:
        pages = [path for path in (Path("bench/index.html"), Path("quickstart/index.html")) if path.is_file()]
    folders = [page.parent for page in pages]
    return {str(page.parent if folders.count(page.parent) == 1 else page): page.resolve() for page in pages}


def _check_port(host: str, port: int) -> None:
    import errno
    import socket

    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except socket.gaierror as error:
        raise InputError(f"--host {host}: no address and no known name ({error.strerror})") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"--host {host}: no address of this machine; 0.0.0.0 stands for all of its own") from error
        raise InputError(f"{host}:{port}: cannot be served from ({error.strerror}); choose another --port") from error
