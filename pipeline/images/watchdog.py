"""Decoders that do not come back: their process ends, and its work is done again with care.

A thread cannot be stopped alone. So this is for processes that are missed when they end: those that
Luigi works in, and those of an export.
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

STUCK_S = 60.0
"""An image that has been read for so long is read apart, within `apart.LIMIT_S`. Less than that, so
that an image is rejected for its time or not whichever way it is read first."""

LOOKS_S = 1.0

_begun: dict[int, tuple[float, str]] = {}
"""When each thread has begun to read which image."""

_lock = threading.Lock()
_watched: set[int] = set()
"""Processes that have a thread that looks: one that was forked has lost its parent's."""


@contextmanager
def watched(key: str) -> Iterator[None]:
    """End this process if what is done within, with the image *key*, does not come back."""
    _look_on()
    me = threading.get_ident()
    _begun[me] = time.monotonic(), key
    try:
        yield
    finally:
        _begun.pop(me, None)


@contextmanager
def unwatched() -> Iterator[None]:
    """Do not count the time that a storage takes: it has limits of its own."""
    me = threading.get_ident()
    mine = _begun.pop(me, None)
    try:
        yield
    finally:
        if mine is not None:
            _begun[me] = time.monotonic(), mine[1]


def _look_on() -> None:
    with _lock:
        if os.getpid() not in _watched:
            _watched.add(os.getpid())
            _begun.clear()
            threading.Thread(target=_look, name="watch", daemon=True).start()


def _look() -> None:
    while True:
        time.sleep(LOOKS_S)
        for begun, key in list(_begun.values()):
            if time.monotonic() - begun > STUCK_S:
                log.error("%s: not decoded after %.0f s; this worker ends", key, STUCK_S)
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
