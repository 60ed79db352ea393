"""Check that a PNG is undamaged: Pillow ignores missing rows and the checksums of pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By PNG colour type."""

SIGNATURE_BYTES, CHECKSUM_BYTES = 8, 4
CHUNK_HEAD = struct.Struct(">I4s")
INFLATED_BYTES = 1 << 20
"""How much is decompressed at a time: a few bytes of a file may expand to gigabytes."""


def check_png(data: bytes, image: Image.Image) -> None:
    """Raise ValueError or zlib.error if the PNG file *data*, decoded to *image*, is damaged."""
    for position, size in _image_data(data):
        end = position + size
        checksum = zlib.crc32(memoryview(data)[position - 4 : end])  # with the chunk's name
        if data[end : end + CHECKSUM_BYTES] != checksum.to_bytes(CHECKSUM_BYTES, "big"):
            raise ValueError("the checksum of its pixels is wrong")
    if not _has_all_rows(data, image):
        raise ValueError("some of its rows are missing")


def _has_all_rows(data: bytes, image: Image.Image) -> bool:
    """Return True if the PNG file *data*, which was decoded to *image*, holds every row.

    Rows are counted only if the last one is all zeros, as a missing row would be. Of an interlaced
    image Pillow itself reports missing rows.
    """
    last = image.crop((0, image.height - 1, image.width, image.height))
    if image.info.get("interlace") or np.asarray(last).any():
        return True
    depth, colour_type = data[24:26]
    row_bytes = 1 + -(-image.width * depth * CHANNELS[colour_type] // 8)
    missing, inflater = row_bytes * image.height, zlib.decompressobj()
    for position, size in _image_data(data):
        remaining = data[position : position + size]
        while remaining and missing > 0:
            missing -= len(inflater.decompress(remaining, INFLATED_BYTES))
            remaining = inflater.unconsumed_tail
    return missing <= 0


def _image_data(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield position and size of the contents of the IDAT chunks, which are the first picture."""
    position = SIGNATURE_BYTES
    while position + CHUNK_HEAD.size <= len(data):
        size, kind = CHUNK_HEAD.unpack_from(data, position)
        position += CHUNK_HEAD.size
        if kind == b"IDAT":
            yield position, size
        position += size + CHECKSUM_BYTES
