"""End a process whose decoder hangs; its work is then done again, with decoding in a sandbox.

A thread cannot be stopped by itself. So this is for processes whose end is noticed: Luigi's
workers, and those of an export.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("quadrat")

LIMIT_S = 60.0
"""Seconds after which an image is read in a sandbox instead, within `sandbox.CPU_LIMIT_S`. It is
less than that, so that an image is rejected as `too_slow` or not whichever way it is read first."""

CHECK_S = 1.0

_reading: dict[int, tuple[float, str]] = {}
"""By thread, the image that it is reading and since when."""

_lock = threading.Lock()
_watched_processes: set[int] = set()
"""Processes that have a watching thread: a fork does not inherit its parent's."""


@contextmanager
def watched(key: str) -> Iterator[None]:
    """End this process if what is done within, with the image *key*, takes longer than LIMIT_S."""
    _start_watching()
    thread = threading.get_ident()
    _reading[thread] = time.monotonic(), key
    try:
        yield
    finally:
        _reading.pop(thread, None)


@contextmanager
def unwatched() -> Iterator[None]:
    """Do not count the time of what is done within: a storage has time limits of its own."""
    thread = threading.get_ident()
    reading = _reading.pop(thread, None)
    try:
        yield
    finally:
        if reading is not None:
            _reading[thread] = time.monotonic(), reading[1]


def _start_watching() -> None:
    with _lock:
        if os.getpid() not in _watched_processes:
            _watched_processes.add(os.getpid())
            _reading.clear()
            threading.Thread(target=_watch, name="watchdog", daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(CHECK_S)
        for since, key in list(_reading.values()):
            if time.monotonic() - since > LIMIT_S:
                log.error("%s: not decoded after %.0f s; stopping this worker", key, LIMIT_S)
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
