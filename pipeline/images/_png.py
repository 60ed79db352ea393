"""Whether a PNG has the rows that it says it has: Pillow leaves black what is missing, unsaid."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of each of the PNG's kinds of colour."""

BEFORE, AFTER = struct.Struct(">I4s"), 4
PIECE_BYTES = 1 << 20


def has_all_rows(data: bytes, image: Image.Image) -> bool:
    """Say whether the bytes of a PNG that was decoded to *image* hold every row.

    Only a last row of zeros may be a missing one, so only then they are counted. Of an interlaced
    image Pillow itself notices.
    """
    last = image.crop((0, image.height - 1, image.width, image.height))
    if image.info.get("interlace") or np.asarray(last).any():
        return True
    depth, colour = data[24:26]
    row = 1 + -(-image.width * depth * BANDS[colour] // 8)
    wanted, packed = row * image.height, zlib.decompressobj()
    for part in _packed(data):
        left = part
        while left and wanted > 0:
            wanted -= len(packed.decompress(left, PIECE_BYTES))
            left = packed.unconsumed_tail
    return wanted <= 0


def _packed(data: bytes) -> Iterator[bytes]:
    """Give what the first picture's chunks hold."""
    place = 8
    while place + BEFORE.size <= len(data):
        size, kind = BEFORE.unpack_from(data, place)
        place += BEFORE.size
        if kind == b"IDAT":
            yield data[place : place + size]
        place += size + AFTER
