"""Waiting for an answer, but not for ever: a peer may send a byte now and then.

A socket's own timeout is between two bytes. Headers, and answers that libraries read whole, are
waited for in a thread, which is left behind where they do not come.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

ANSWER_S = 180
"""From asking to the end of the headers, or of an answer that is read whole."""

AT_ONCE = 1024 * 1024
SLOWEST = 256
"""Bytes a second."""

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Give what *ask* gives, or raise what it raises.

    Raises:
        OSError: it takes more than *seconds*.
    """
    found: list[T] = []
    failed: list[BaseException] = []
    left = threading.Event()

    def run() -> None:
        try:
            found.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            failed.append(error)
        if left.is_set() and found and isinstance(found[0], io.IOBase):
            found[0].close()

    asking = threading.Thread(target=run, daemon=True)
    asking.start()
    asking.join(seconds)
    if asking.is_alive():
        left.set()
        raise OSError(f"no whole answer came in {seconds:.0f} s")
    if failed:
        raise failed.pop()  # not kept, or it would hold what it came from until some later day
    return found[0]


def read(stream: Any, patience: float) -> bytes:
    """Read *stream*, which has `read1`, to its end.

    Args:
        stream: of an HTTP answer.
        patience: seconds after which it must have come at SLOWEST at least.

    Raises:
        OSError: it comes a few bytes at a time, so that no wait for one is too long and all are.
    """
    began, parts, got = time.monotonic(), [], 0
    # The stream's own read waits until all that is asked for is there.
    while part := stream.read1(AT_ONCE):
        parts.append(part)
        got += len(part)
        seconds = time.monotonic() - began
        if seconds > patience and got < seconds * SLOWEST:
            stream.close()
            raise OSError(f"{got:,} bytes came in {seconds:.0f} s")
    return b"".join(parts)
