"""Claims: which process works on which shard. They lie under ``logs/`` and never enter a digest.

A claim is a small file made only if it is not there. Its owner renews it while it works; a claim whose process is dead
(same host) or that was not renewed for a while (another host or container) is taken back. Before a commit the owner looks whether the
claim is still its own, so that a process that slept too long drops its work instead of doing it twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path

from pipeline.place import Place, write
from pipeline.processes import is_alive, this_host

FOLDER = "logs/claims"
RENEWED_EVERY = 10.0  # seconds
STALE_AFTER = 120.0  # seconds without renewal, for a claim of another host


class Claims:
    """The claims of one process. They hold for a shard whichever prior is made, because priors share its images."""

    def __init__(self, home: Place) -> None:
        self.home = home
        self.token = secrets.token_hex(8)
        self.held: set[int] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._renewer: threading.Thread | None = None

    def take(self, shard: int) -> bool:
        """Claim a shard; False when a living process has it."""
        name = self._name(shard)
        for _ in range(2):
            if self.home.create(name, self._content(), durable=False):  # when the machine dies, its claims are stale
                with self._lock:
                    self.held.add(shard)
                self._start_renewing()
                return True
            if not self._is_stale(name):
                return False
            self.home.remove(name)
        return False

    def is_mine(self, shard: int) -> bool:
        """Whether the claim is still this process's own."""
        found = self._read(self._name(shard))
        return bool(found) and found.get("token") == self.token

    def release(self, shard: int) -> None:
        """Give a shard back (done or not)."""
        with self._lock:
            self.held.discard(shard)
        if self.is_mine(shard):
            self.home.remove(self._name(shard))

    def sweep(self) -> None:
        """Remove the claims of dead processes of this host: one that died behind its commit left one that nobody takes."""
        for entry in self.home.list(FOLDER):
            name = f"{FOLDER}/{entry}"
            if self._read(name).get("host") == this_host() and self._is_stale(name):
                self.home.remove(name)

    def close(self) -> None:
        """Stop renewing and give everything back."""
        self._stop.set()
        if self._renewer:
            self._renewer.join()
        for shard in sorted(self.held):
            self.release(shard)

    def _name(self, shard: int) -> str:
        return f"{FOLDER}/shard-{shard:06d}.json"

    def _content(self) -> bytes:
        owner = {
            "host": this_host(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "token": self.token,
            "renewed": time.time(),
        }
        return json.dumps(owner).encode()

    def _read(self, name: str) -> dict[str, object]:
        try:
            value = json.loads(self.home.read(name))
        except (FileNotFoundError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _is_stale(self, name: str) -> bool:
        owner = self._read(name)
        if owner.get("host") == this_host() and isinstance(owner.get("pid"), int):
            pid = int(str(owner["pid"]))
            return _born(pid) != owner.get("born")
        renewed = owner.get("renewed")
        return not isinstance(renewed, int | float) or time.time() - renewed > STALE_AFTER

    def _start_renewing(self) -> None:
        if self._renewer is None:
            self._renewer = threading.Thread(target=self._renew, name="claims", daemon=True)
            self._renewer.start()

    def _renew(self) -> None:
        while not self._stop.wait(RENEWED_EVERY):
            with self._lock:
                for shard in self.held:
                    # A claim that cannot be renewed is only lost, and the check before the commit sees that.
                    with contextlib.suppress(OSError):
                        if self.is_mine(shard):
                            write(self.home, self._name(shard), self._content())


def _born(pid: int) -> str | None:
    """When a process of this host started (clock ticks since boot), so that a reused number is not mistaken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() or not is_alive(pid) else "alive"
    return None if fields[0] in ("Z", "X") else fields[19]
