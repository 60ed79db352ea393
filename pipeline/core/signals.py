"""Ctrl-C and SIGTERM: children are ended, half-written files removed, one line said, at once.

A finished shard is whole whatever happens, so there is nothing to wait for. A thread waits for the
signal: Python's own handlers wait for the main thread, which may be in the midst of a forward pass.
Only the lightest of the standard library is imported here: it comes before everything else.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

LINE = "stopped by {name}; what is finished stays, and the next run goes on from there\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHILDREN_S = 1.0
"""How long children may take to remove their own files before they are killed."""
CREATING_S = 0.5
"""How long is waited for a file that is being made: a disk that hangs must not keep us."""

unfinished: set[str] = set()
"""Paths of the files that this process is writing, to be removed if it is stopped."""

creating = threading.Lock()
"""Held while a file is noted in `unfinished` and made: whoever ends this process keeps it, so that
none is made after they were removed."""

if hasattr(os, "register_at_fork"):  # a fork must not have it locked by a thread that it lacks
    os.register_at_fork(
        before=creating.acquire, after_in_parent=creating.release, after_in_child=creating.release
    )

helpers: set[int] = set()
"""Processes that work for this one alone and write nothing: killed if it is stopped."""


_ending = threading.Event()


def wait_if_stopping() -> None:
    """Do not take for a fault that children have ended: they were told to, and all ends now."""
    if _ending.is_set():
        threading.Event().wait()


def stop_on_signals() -> None:
    """Let Ctrl-C and SIGTERM stop this process and those that it forks."""
    if os.name == "nt" or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        return  # Windows wakes nobody by a pipe; in a shell's background Ctrl-C is for others
    _watch(_end_all)
    atexit.register(wait_if_stopping)  # or the main thread ends first, with another code
    said = sys.excepthook

    def say_unless_ending(*error: Any) -> None:
        wait_if_stopping()
        said(*error)

    sys.excepthook = say_unless_ending
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_as_child)


def _as_child() -> None:
    """Leave Ctrl-C to the process that forked this one, which ends it by SIGTERM."""
    unfinished.clear()
    helpers.clear()
    _watch(lambda _: _end(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _watch(act: Any) -> None:
    heard, said = os.pipe()
    os.set_blocking(said, False)
    signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _nothing)

    def wait() -> None:
        while (number := os.read(heard, 1)[0]) not in SIGNALS:
            pass
        act(number)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _nothing(*_: object) -> None:
    """Be there, so that the signal is written to the pipe and does nothing else."""


def _end_all(number: int) -> None:
    _ending.set()
    children = _children()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + CHILDREN_S
    while children and time.monotonic() < deadline:
        time.sleep(0.01)
        children = _children()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _forget_semaphores()
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    begin = "\n" if sys.stderr.isatty() else ""  # a line of progress stands there
    with suppress(OSError):
        os.write(2, (begin + LINE.format(name=name)).encode())
    _end(128 + number)


def _children() -> list[int]:
    """Give the processes that Luigi has forked and that still run."""
    if "multiprocessing" not in sys.modules:
        return []
    import multiprocessing

    return [int(child.pid) for child in multiprocessing.active_children() if child.pid]


def _forget_semaphores() -> None:
    """Do what multiprocessing does at its own end, or its tracker warns of what is left."""
    if "multiprocessing.synchronize" in sys.modules:
        from multiprocessing import util

        ending = threading.Thread(target=util._run_finalizers, args=(0,), daemon=True)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other
        ending.start()
        ending.join(CHILDREN_S / 2)


def _end(code: int) -> None:
    for pid in list(helpers):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    creating.acquire(timeout=CREATING_S)
    for path in list(unfinished):
        with suppress(OSError):
            os.unlink(path)
    os._exit(code)
