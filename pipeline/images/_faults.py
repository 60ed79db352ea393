"""What Pillow raises on damaged data, and what of it is not the image's fault."""

from __future__ import annotations

import struct
import zlib

from pipeline.core.errors import StorageError

DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    AttributeError,
    ZeroDivisionError,
    RuntimeError,
)
"""What Pillow's decoders raise on damaged data; they validate little before they index."""


def pass_storage_errors(error: BaseException) -> None:
    """Raise the StorageError that *error* comes from, if one: a bucket's fault, not the image's.

    Pillow's plugins wrap what reading raises.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StorageError):
            raise cause
        cause = cause.__cause__ or cause.__context__
