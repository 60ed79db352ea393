"""A store in a folder that remembers what is asked of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.storage import Object
from pipeline.storage.folder import Folder

PATIENCE_S = 10.0


class WatchedFolder(Folder):
    """A folder that remembers its requests, each with the key, in the order of their beginning."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests: list[tuple[str, str]] = []

    def asked(self, method: str) -> list[str]:
        """The keys that *method* was called with."""
        return [key for name, key in self.requests if name == method]

    def list(self, prefix: str = "") -> Iterator[Object]:
        self._note("list", prefix)
        return super().list(prefix)

    def read(self, key: str, **range_and_version) -> bytes:
        self._note("read", key)
        return super().read(key, **range_and_version)

    def put(self, key: str, data: bytes) -> None:
        self._note("put", key)
        super().put(key, data)

    def touch(self, key: str) -> None:
        self._note("touch", key)
        super().touch(key)

    def _note(self, method: str, key: str) -> None:
        self.requests.append((method, key))


class Crowd(WatchedFolder):
    """A folder in which requests for an object wait until *size* of them are under way.

    Fewer never get on, and BrokenBarrierError is raised; `most` is how many there were at most.
    """

    def __init__(self, root: Path, size: int) -> None:
        super().__init__(root)
        self.size, self.most, self._now = size, 0, 0
        self._lock = threading.Lock()
        self.gate: threading.Barrier | None = None

    def expect(self) -> None:
        """Let requests wait for each other from now on."""
        self.gate = threading.Barrier(self.size, timeout=PATIENCE_S)

    def _note(self, method: str, key: str) -> None:
        super()._note(method, key)
        if self.gate is None or method == "list":
            return
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.gate.wait()
        time.sleep(0.01)  # one too many would come now
        with self._lock:
            self._now -= 1
