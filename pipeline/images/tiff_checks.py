"""What makes a TIFF unsupported or damaged: it would be misread without an error.

Or it would take too much memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.core.errors import Rejected

SUBFILE_TYPE, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS = 254, 258, 259, 262, 273
SAMPLES, STRIP_BYTES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_LENGTH = 277, 279, 284, 317, 322, 323
TILE_OFFSETS, TILE_BYTES, SUB_IFDS, SAMPLE_FORMAT, SUBSAMPLING = 324, 325, 330, 339, 530

REDUCED = 1
WHITE_IS_ZERO = 0
SIGNED = 2
SEPARATE = 2
PACKBITS = 32773
DEFLATE = {8, 32946}
INFLATED_BYTES = 1 << 20
BYTE, LONG = 8, 32

MAX_TILE_PIXELS = 2**22
"""A tile may have this many pixels however small its image is."""


def layout_problems(
    offsets: Sequence[int], tile: tuple[int, int], size: tuple[int, int]
) -> Iterator[str]:
    """Yield what is wrong with the strips or tiles of a TIFF.

    Args:
        offsets: their positions in the file.
        tile: width and length of a tile; 0 and 0 if there are none.
        size: width and length of the image.
    """
    if 0 in offsets:  # the file's first bytes would be used instead
        yield "strips or tiles that were never written"
    # A tile is decoded whole, and may be far larger than its image.
    if math.prod(tile) > max(MAX_TILE_PIXELS, 4 * math.prod(size)):
        yield f"tiles of {tile[0]:,} × {tile[1]:,} pixels"


def unsupported_tiff(name: str, problem: str) -> Rejected:
    """Return the reject of a TIFF with a *problem*."""
    return Rejected("unsupported", f"{name}: a TIFF with {problem}, which is not supported")


def tiff_problems(image: Any) -> Iterator[str]:
    """Yield what makes Pillow misread this TIFF, or take far more memory than its size."""
    tags = image.tag_v2
    if tags.get(SUBFILE_TYPE, 0) & REDUCED and (tags.next or SUB_IFDS in tags):
        yield "a thumbnail before its picture"  # as in raw photographs; it would be used instead
    offsets = (*tags.get(STRIP_OFFSETS, ()), *tags.get(TILE_OFFSETS, ()))
    tile = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
    yield from layout_problems(offsets, tile, image.size)
    yield from _misread_values(image)


def _misread_values(image: Any) -> Iterator[str]:
    """Yield what makes Pillow 13.0 misread the values of this TIFF.

    Source: 6,072 TIFFs written by tifffile, compared with what Pillow reads of them
    (`tests/images/test_tiff_checks.py`).
    """
    tags, bands = image.tag_v2, image.tag_v2.get(SAMPLES, 1)
    bits: Sequence[int] = tags.get(BITS, (1,))
    sample_format: Sequence[int] = tags.get(SAMPLE_FORMAT, (1,))
    is_deep = max(bits) > BYTE
    by_libtiff = bool(image.tile) and image.tile[0][0] == "libtiff"
    if tags.get(COMPRESSION) == PACKBITS and tags.get(PREDICTOR, 1) != 1:
        yield "a predictor and PackBits compression"  # the predictor is not undone
    if image.mode == "LAB":
        yield "LAB colours"  # decoders differ in what its white is
    if SIGNED in sample_format and max(bits) <= BYTE:
        yield "signed 8-bit values"  # read as unsigned
    if image.mode == "I" and max(bits) == LONG and 1 in sample_format:
        yield "unsigned 32-bit values"  # read as signed
    if by_libtiff and image.mode in {"I", "F"} and tags.prefix == b"MM":
        yield f"compressed big-endian values of mode {image.mode}"  # bytes in the wrong order
    if is_deep and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        yield f"{max(bits)}-bit values of which 0 is white"  # not inverted
    reads_planes = image.mode in {"RGB", "RGBA", "CMYK"} and (by_libtiff or not is_deep)
    if bands > 1 and tags.get(PLANAR) == SEPARATE and not reads_planes:
        yield f"{max(bits)}-bit bands, mode {image.mode}, on separate planes"
    if image.mode == "YCbCr" and not by_libtiff and tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        yield "uncompressed YCbCr with subsampled colours"  # read as if they were not


def check_deflate(parts: Iterable[bytes]) -> None:
    """Raise zlib.error if a strip or tile compressed by Deflate is not what was written.

    libtiff stops at the last pixel, before the checksum; tifffile's decoder compares it.
    """
    for part in parts:
        inflater, remaining = zlib.decompressobj(), part
        while remaining and not inflater.eof:
            inflater.decompress(remaining, INFLATED_BYTES)
            remaining = inflater.unconsumed_tail
        if not inflater.eof:
            raise zlib.error("a strip or tile ends early")


def deflated_parts(image: Any, data: bytes) -> Iterator[bytes]:
    """Yield the strips or tiles of the TIFF *data*, opened as *image*, if they are deflated."""
    tags = image.tag_v2
    if tags.get(COMPRESSION) in DEFLATE:
        for offsets, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (TILE_OFFSETS, TILE_BYTES)):
            for start, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=True):
                yield data[start : start + size]
