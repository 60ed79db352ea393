"""Objects that cannot be had: whether it is they, or the whole place."""

from __future__ import annotations

import errno

REFUSALS = 20
"""So many objects refused and none read: it is not the objects."""

UNREAD = "not read"
"""The version of a file that was listed and could not be read: no other file has it."""

_NAMES = ("EIO", "EBADMSG", "ENODATA", "EREMOTEIO", "EUCLEAN")
DISKS_FAULTS = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""What a disk or a file system says of bytes that it has lost. Not what it says of itself, as that
it has gone: then no other file can be had either."""

NOT_ALLOWED = {errno.EACCES, errno.EPERM}


def reason(error: OSError) -> str | None:
    """Give the reject's reason where *error* is of one file alone; None: it is the machine's."""
    if error.errno in NOT_ALLOWED:
        return "forbidden"
    return "unreadable" if error.errno in DISKS_FAULTS else None


class Refusals:
    """Counts what is refused until something was read."""

    def __init__(self) -> None:
        self.has_read, self._count = False, 0

    def are_all(self) -> bool:
        """Count one more; say whether nothing can be had at all."""
        self._count += 1
        return not self.has_read and self._count >= REFUSALS
