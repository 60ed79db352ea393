"""The file that a command writes: a path, or an object on S3."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import StorageError
from pipeline.storage import open_storage


def write(target: str, data: bytes) -> None:
    """Write *data* to a path, or to `s3://bucket/key` as one object.

    Raises:
        StorageError: it cannot be written.
    """
    if "://" in target:
        folder, _, name = target.rpartition("/")
        open_storage(folder).put(name, data)
        return
    try:
        Path(target).write_bytes(data)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror})") from error
