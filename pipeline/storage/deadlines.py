"""Deadlines for servers that send a byte now and then.

A socket's own timeout applies between two bytes, so it never ends such a response. Headers, and
responses that a library reads whole, are waited for in another thread, which is abandoned if they
do not arrive in time.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

RESPONSE_S = 180
"""From the request to the end of the headers, or of a response that is read whole."""

MIN_BYTES_PER_S = 256
CHUNK_BYTES = 1024 * 1024

T = TypeVar("T")


class _Worker(threading.Thread):
    """Makes one call after another: starting a thread for each costs as much as a request."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self.start()

    def run(self) -> None:
        """Make calls until there are no more."""
        while self._make_next_call():
            pass

    def _make_next_call(self) -> bool:
        """Make one call; return False if there are no more."""
        queued = self.calls.get()
        if queued is None:
            return False
        future, call = queued
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            future.set_exception(error)
        finally:
            del future, queued  # an exception's traceback holds this frame, and so itself
        return True


_idle: list[_Worker] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked process has no threads but one


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what *call* returns, or raise what it raises.

    Raises:
        OSError: it takes more than *seconds*.
    """
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    future: Future[T] = Future()
    worker.calls.put((future, call))
    try:
        future.exception(seconds)
    except TimeoutError:
        future.add_done_callback(partial(_abandon, worker))
        raise OSError(f"no complete response in {seconds:.0f} s") from None
    _idle.append(worker)
    try:
        return future.result()
    finally:
        del future  # as above


def _abandon(worker: _Worker, future: Future[Any]) -> None:
    """End a thread that nobody waits for any more, and close the response that came too late."""
    worker.calls.put(None)
    if future.exception() is None and isinstance(future.result(), io.IOBase):
        future.result().close()


def read_all(stream: Any, grace_s: float) -> bytes:
    """Read the body of an HTTP response, which has `read1`, to its end.

    Raises:
        OSError: after *grace_s* seconds, it has arrived more slowly than MIN_BYTES_PER_S.
    """
    started, chunks, size = time.monotonic(), [], 0
    # Unlike `read1`, `read` waits until all the bytes it was asked for have arrived.
    while chunk := stream.read1(CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        seconds = time.monotonic() - started
        if seconds > grace_s and size < seconds * MIN_BYTES_PER_S:
            stream.close()
            raise OSError(f"only {size:,} bytes arrived in {seconds:.0f} s")
    return b"".join(chunks)
