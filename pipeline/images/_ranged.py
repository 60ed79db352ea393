"""One object of a storage as a file, so that a header costs its first blocks and not the image."""

from __future__ import annotations

import io
from typing import Any

from pipeline.images.watchdog import unwatched
from pipeline.storage import Object, Storage

BLOCK_BYTES = 65_536


class RangedFile(io.RawIOBase):
    """One object of a storage as a file that is fetched in blocks, as they are asked for."""

    def __init__(self, storage: Storage, item: Object) -> None:
        self.storage, self.item, self.place = storage, item, 0
        self.blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought in."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move as files do."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.item.size}[whence]
        self.place = max(base + offset, 0)
        return self.place

    def tell(self) -> int:
        """Give the place."""
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Fill *buffer* from the blocks it lies in, fetching in one request what is not here."""
        stop = min(self.place + len(buffer), self.item.size)
        if stop <= self.place:
            return 0
        first, last = self.place // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        missing = [number for number in range(first, last + 1) if number not in self.blocks]
        if missing:
            self._fetch(missing[0], missing[-1])
        data = b"".join(self.blocks[number] for number in range(first, last + 1))
        offset = self.place - first * BLOCK_BYTES
        some = data[offset : offset + stop - self.place]
        buffer[: len(some)] = some
        self.place += len(some)
        return len(some)

    def readall(self) -> bytes:
        """Give the rest in one request; the base class would ask for every block by itself."""
        rest = bytearray(max(self.item.size - self.place, 0))
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
