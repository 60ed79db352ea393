"""The errors that a person can fix, each with the exit code that a shell gets.

A message reads `where: what is wrong, with the value; what to do`. Any other exception is a bug in
Quadrat and shows its traceback.
"""

from __future__ import annotations


class QuadratError(Exception):
    """An error that a person can fix; its text is the whole message."""

    exit_code = 1


class SettingError(QuadratError):
    """A setting in params.yaml, luigi.cfg or the environment that cannot be used."""

    exit_code = 2


class InputError(QuadratError):
    """A bucket, annotation file or weights file that is not what the settings say."""

    exit_code = 3


class StorageError(QuadratError):
    """A bucket or store that cannot be reached, read or written."""

    exit_code = 4


class TooManyRejects(QuadratError):
    """More rows of a stage were rejected than its `max_rejects` allows."""

    exit_code = 5


class Changed(StorageError):
    """An object has other bytes than the requested version."""


class Missing(StorageError):
    """A requested object does not exist."""


class TransientError(StorageError):
    """A failure that may not happen again: of the network, or of a busy service."""


class Rejected(Exception):
    """One row cannot be used: a stage catches this and keeps a reject; it never ends a run."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def cannot_write(place: object, error: OSError) -> StorageError:
    """Return the error of a file at *place* that cannot be written, with what to do."""
    return StorageError(
        f"{place}: cannot be written ({error.strerror or error}); free some space or give this "
        "user permission to write there, and run again"
    )


def shorten(text: str, longest: int) -> str:
    """Return *text* for a message: in one line, cut after *longest* characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


BY_NAME: dict[str, type[QuadratError]] = {
    kind.__name__: kind
    for kind in (SettingError, InputError, StorageError, TooManyRejects, Changed, Missing)
}
