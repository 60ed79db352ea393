"""Objects that cannot be read: whether it is one of them, or the whole storage."""

from __future__ import annotations

import errno

MAX_REFUSALS = 20

NOT_ALLOWED = {errno.EACCES, errno.EPERM}

_NAMES = ("EIO", "EBADMSG", "ENODATA", "EREMOTEIO", "EUCLEAN")
LOST_DATA = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""Errors of a disk that has lost the bytes of a file. A disk that is lost itself gives others: then
no other file can be read either."""


def reject_reason(error: OSError) -> str | None:
    """Return the reason to reject one file; None if *error* is not of this file alone."""
    if error.errno in NOT_ALLOWED:
        return "forbidden"
    return "unreadable" if error.errno in LOST_DATA else None


class Refusals:
    """Counts the objects that are refused.

    Attributes:
        has_read: whether any object was read: then a refusal is of one object alone.
    """

    def __init__(self) -> None:
        self.has_read, self._count = False, 0

    def count(self) -> bool:
        """Count one more; return True if MAX_REFUSALS were refused and none was read."""
        self._count += 1
        return not self.has_read and self._count >= MAX_REFUSALS
