"""An object in the storage as a seekable file: reading a header fetches a few blocks of it."""

from __future__ import annotations

import io
from typing import Any

from pipeline.images.watchdog import unwatched
from pipeline.storage import Object, Storage

BLOCK_BYTES = 65_536


class RangedFile(io.RawIOBase):
    """An object in the storage as a seekable file, fetched in blocks by ranged requests."""

    def __init__(self, storage: Storage, item: Object) -> None:
        self.storage, self.item, self.position = storage, item, 0
        self.blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to *offset*, and return the new position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.item.size}[whence]
        self.position = max(base + offset, 0)
        return self.position

    def tell(self) -> int:
        """Return the position."""
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer*, fetching the missing blocks in one request; return the bytes read."""
        stop = min(self.position + len(buffer), self.item.size)
        if stop <= self.position:
            return 0
        first, last = self.position // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        missing = [number for number in range(first, last + 1) if number not in self.blocks]
        if missing:
            self._fetch(missing[0], missing[-1])
        blocks = b"".join(self.blocks[number] for number in range(first, last + 1))
        offset = self.position - first * BLOCK_BYTES
        data = blocks[offset : offset + stop - self.position]
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Return the rest, in one request; the base class would ask for each block separately."""
        rest = bytearray(max(self.item.size - self.position, 0))
        return bytes(rest[: self.readinto(rest)])

    def _fetch(self, first: int, last: int) -> None:
        start = first * BLOCK_BYTES
        stop = min((last + 1) * BLOCK_BYTES, self.item.size)
        item = self.item
        with unwatched():
            data = self.storage.read(item.key, start=start, stop=stop, if_version=item.version)
        for number in range(first, last + 1):
            offset = (number - first) * BLOCK_BYTES
            self.blocks[number] = data[offset : offset + BLOCK_BYTES]
