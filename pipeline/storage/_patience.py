"""Waiting for an answer, but not for ever: a peer may send a byte now and then.

A socket's own timeout is between two bytes. Headers, and answers that libraries read whole, are
waited for in a thread, which is left behind where they do not come.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

ANSWER_S = 180
"""From asking to the end of the headers, or of an answer that is read whole."""

AT_ONCE = 1024 * 1024
SLOWEST = 256
"""Bytes a second."""

T = TypeVar("T")


class _Asker:
    """A thread that asks one thing after another: to begin one for each costs as much as to ask."""

    def __init__(self) -> None:
        self.questions: SimpleQueue[_Question] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.questions.get().answer():
            pass


class _Question:
    """What is asked, and what came of it."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.ask = ask
        self.found: list[Any] = []
        self.failed: list[BaseException] = []
        self.is_left = False
        self.answered = threading.Lock()
        self.answered.acquire()

    def answer(self) -> bool:
        """Ask; say whether nobody waits for it any more."""
        try:
            self.found.append(self.ask())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self.failed.append(error)
        if self.is_left and self.found and isinstance(self.found[0], io.IOBase):
            self.found[0].close()
        self.answered.release()
        return self.is_left


_idle: list[_Asker] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a fork has none of its parent's threads


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Give what *ask* gives, or raise what it raises.

    Raises:
        OSError: it takes more than *seconds*.
    """
    question = _Question(ask)
    try:
        asker = _idle.pop()
    except IndexError:
        asker = _Asker()
    asker.questions.put(question)
    if not question.answered.acquire(timeout=seconds):
        question.is_left = True
        raise OSError(f"no whole answer came in {seconds:.0f} s")
    _idle.append(asker)
    if question.failed:
        raise question.failed.pop()  # not kept, or it would hold what it came from for long
    found: T = question.found[0]
    return found


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
