"""The exceptions of image decoders, and which of them come from the storage instead."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.core.errors import Rejected, StorageError

DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow and tifffile raise on damaged data: they check little before they use it.

Not MemoryError: too little memory is the machine's fault, and a reject would be kept."""

HEADER_ERRORS = (*DECODER_ERRORS, MemoryError)
"""The same for headers, which may ask for any amount of memory if they are damaged."""


def reraise_storage_error(error: BaseException) -> None:
    """Raise the StorageError that led to *error*, if there is one.

    Pillow's plugins wrap what reading raises. A failing bucket must not turn into a reject, which
    would be kept although the bucket may work again in a minute.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StorageError):
            raise cause
        cause = cause.__cause__ or cause.__context__


def truncated(error: BaseException) -> Rejected:
    """Return the reject of an image whose decoder raised *error*."""
    return Rejected("truncated", f"the image's data end early or are damaged: {error}")


@contextmanager
def damage_rejected() -> Iterator[None]:
    """Raise Rejected, `truncated`, for whatever a decoder raises on damaged data within."""
    try:
        yield
    except DECODER_ERRORS as error:
        raise truncated(error) from error
