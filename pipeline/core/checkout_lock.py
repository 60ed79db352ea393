"""The lock of a checkout: only one process at a time writes its outs.

DVC has a lock of its own; but when only dvc is killed, its stage goes on, and Luigi's own command
knows nothing of DVC. This lock belongs to the open file: it is released when the last process that
has it ends, in whatever way.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO

from pipeline.core.errors import cannot_write

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("quadrat")

LOCK = Path(".quadrat/stage.lock")


def acquire() -> AbstractContextManager[IO[str] | None]:
    """Wait until no other process works on this checkout's outs; the lock ends with the context.

    Raises:
        StorageError: the file cannot be written.
    """
    if fcntl is None:
        return nullcontext()
    try:
        LOCK.parent.mkdir(exist_ok=True)
        stream = LOCK.open("w", encoding="utf-8")
    except OSError as error:
        raise cannot_write(LOCK, error) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("an earlier run still works in this checkout; waiting for its end")
        fcntl.flock(stream, fcntl.LOCK_EX)
    return stream
