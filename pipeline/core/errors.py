"""The four ways a run can stop that are not bugs, each with the exit code a shell sees.

A message reads `where: what is wrong, with the value; what to do`. Anything that is not a
QuadratError is a mistake of ours and shows its traceback.
"""

from __future__ import annotations


class QuadratError(Exception):
    """A stop that a person can do something about; its text is the whole message."""

    exit_code = 1


class SettingError(QuadratError):
    """A setting in params.yaml, luigi.cfg or the environment that cannot be used."""

    exit_code = 2


class InputError(QuadratError):
    """A bucket, annotation file or weights file that is not what the settings say it is."""

    exit_code = 3


class StorageError(QuadratError):
    """A bucket or store that cannot be reached, read or written."""

    exit_code = 4


class TooManyRejects(QuadratError):
    """More rows of a stage were rejected than its `max_rejects` allows."""

    exit_code = 5


class Changed(StorageError):
    """An object has other bytes than the version that was asked for."""


class Missing(StorageError):
    """An object that was asked for is not there."""


class TransientError(StorageError):
    """A failure that another try may not meet: the network, a service that is busy or failing."""


class Rejected(Exception):
    """One row cannot be used. Caught by the stage and kept as a reject; never ends a run."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def shorten(text: str, longest: int) -> str:
    """Give *text* for a message: in one line, and cut off where it is longer than that."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


ALL = (SettingError, InputError, StorageError, TooManyRejects, Changed, Missing)
BY_NAME: dict[str, type[QuadratError]] = {kind.__name__: kind for kind in ALL}
