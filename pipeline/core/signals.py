"""Ctrl-C and SIGTERM: end the child processes, remove half-written files, print one line, and exit.

A finished shard is complete whatever happens, so there is nothing to wait for. A thread waits for
the signal: Python's own handlers run in the main thread, which may be in the middle of a forward
pass. This module is imported before everything else, so it imports only light parts of the standard
library, and `typing` not at all: until it has run, a signal kills the process without a line.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINE = "stopped by {name}; finished work is kept, and the next run continues from there\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
CHILDREN_S = 1.0
"""How long child processes may take to remove their own files before they are killed."""
PARENT_CHECK_S = 1.0
CREATING_S = 0.5
"""How long to wait for a file that is being created: a disk that hangs must not block the exit."""

unfinished: set[str] = set()
"""The files that this process is writing; they are removed if it is stopped."""

creating = threading.Lock()
"""Held while a file is added to `unfinished` and created. Whoever ends this process keeps the lock,
so that no file is created after the others have been removed."""

if hasattr(os, "register_at_fork"):
    # A child must not inherit a lock that is held by a thread that it does not have.
    os.register_at_fork(
        before=creating.acquire, after_in_parent=creating.release, after_in_child=creating.release
    )

helpers: set[int] = set()
"""Processes that work only for this one and write nothing; they are killed if it is stopped."""

_ending = threading.Event()


def wait_if_stopping() -> None:
    """Block if this process is being stopped: an error caused by that must not be reported."""
    if _ending.is_set():
        threading.Event().wait()


def stop_on_signals() -> None:
    """Stop this process and its child processes on Ctrl-C and SIGTERM."""
    if os.name == "nt" or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        return  # Windows has no wake-up pipe; a background job of a shell ignores Ctrl-C
    _watch(_end_all)
    atexit.register(wait_if_stopping)  # or the main thread exits first, with another code
    show = sys.excepthook

    def show_unless_stopping(*error: Any) -> None:
        wait_if_stopping()
        show(*error)

    sys.excepthook = show_unless_stopping
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=begin_child)


def begin_child() -> None:
    """Ignore Ctrl-C in this child process: its parent ends it with SIGTERM."""
    if os.name == "nt":
        return
    unfinished.clear()
    helpers.clear()
    _watch(lambda _: _end(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _watch(act: Any) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _nothing)

    def wait() -> None:
        while (number := os.read(reading, 1)[0]) not in SIGNALS:
            pass
        act(number)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _nothing(*_: object) -> None:
    """Do nothing: with a handler, the signal is written to the pipe and has no other effect."""


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
    begin = "\n" if sys.stderr.isatty() else ""  # after the progress bar
    with suppress(OSError):
        os.write(2, (begin + LINE.format(name=name)).encode())
    _end(128 + number)


def _children() -> list[int]:
    """Return the ids of the child processes that still run."""
    if "multiprocessing" not in sys.modules:
        return []
    import multiprocessing

    return [int(child.pid) for child in multiprocessing.active_children() if child.pid]


def _forget_semaphores() -> None:
    """Run multiprocessing's finalizers, or its resource tracker warns of leaked semaphores."""
    if "multiprocessing.synchronize" in sys.modules:
        from multiprocessing import util

        ending = threading.Thread(target=util._run_finalizers, args=(0,), daemon=True)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
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


def end_with_parent() -> None:
    """End this worker process when its parent has been killed: nobody waits for its work."""
    if "multiprocessing" not in sys.modules:
        return
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process with SIGTERM

    # A fork server, which stands between the two, ends with the parent. A forked process's siblings
    # keep the parent's pipe open, by which `is_alive` knows.
    above = os.getppid()

    def watch() -> None:
        while os.getppid() == above and parent.is_alive():
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
