"""How the demo's server ends: at once, whatever it is doing, with what it was given deleted."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the demo needs starlette: pip install 'fusioncli[demo]'")
pytest.importorskip("httpx", reason="needs httpx: pip install 'fusioncli[server]'")
pytest.importorskip("av", reason="videos need PyAV: pip install 'fusioncli[video]'")

import httpx

from demo_server import running
from test_demo import film


def upload(address: str, path: Path) -> str:
    asked = {"name": path.name, "kind": "video"}
    return str(httpx.post(f"{address}/api/upload", params=asked, content=path.read_bytes()).json()["token"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_while_it_fuses(tmp_path: Path, number: signal.Signals) -> None:
    film(tmp_path / "film.mp4", [np.full((480, 640, 3), step % 200, np.uint8) for step in range(190)])
    with running(tmp_path, "--weights", "student") as (address, server):
        first, second = (upload(address, tmp_path / "film.mp4") for _ in range(2))

        def fuse() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.post(f"{address}/api/video", params={"first": first, "second": second}, timeout=120)

        asking = threading.Thread(target=fuse)
        asking.start()
        time.sleep(3)  # of the minutes that it would take
        assert asking.is_alive()
        server.send_signal(number)
        assert server.wait(25) == 0  # seconds are spent when two cores are busy elsewhere
        asking.join()
    assert list((tmp_path / "temporary").glob("fusioncli-demo-*")) == []
    log = (tmp_path / "log").read_text()
    assert "deleted" in log and "Traceback" not in log and "ERROR" not in log
