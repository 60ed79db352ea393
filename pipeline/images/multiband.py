"""TIFFs of deep bands, or of more bands than a picture's: Pillow refuses them or keeps 8 bits.

Pillow, and libtiff through it, unpacks their strips and tiles as if they held grey bytes; what the
bytes mean is said here. Bands are those of the stored pixels: nothing is scaled, turned or dropped.

Source: TIFF 6.0, and Adobe's TIFF Technical Note 3 on floating-point differences.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pipeline.images.decoder_errors import (
    DECODER_ERRORS,
    reraise_storage_error,
    truncated,
)

LARGE_TILE = 2**22
"""Pixels of a tile that is let through however small its image is."""

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
FILL_ORDER, STRIPS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR = 266, 273, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 317, 322, 323, 324, 325
EXTRA, SAMPLE_FORMAT = 338, 339

NUMBERS = (
    *(WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS, SAMPLES, STRIP_ROWS),
    *(STRIP_BYTES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES, EXTRA),
    SAMPLE_FORMAT,
)
"""The tags that are gone by."""

PACKED = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions of any bytes: none, LZW, Deflate (twice), PackBits, LZMA, Zstandard."""
PACKBITS = 32773
GREY, RGB = 1, 2
SEPARATE = 2
DIFFERENCES, FLOATING = 2, 3
ASSOCIATED = 1
ALPHAS = {ASSOCIATED, 2}
KINDS = {1: "u", 2: "i", 3: "f"}
DEEP = (16, 32, 64)
BYTE = 8

HEADS = {b"II*\0": 8, b"MM\0*": 8, b"II+\0": 16}
"""How TIFFs begin, big ones in little-endian order too; how long the header is."""

Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Bands:
    """How a TIFF's bands are stored.

    Attributes:
        height: rows.
        width: columns.
        count: how many bands.
        dtype: of their values, in the file's byte order.
        alpha: which band is transparency; None: none is.
        premultiplied: whether the colours are stored as they are on black.
        planes: whether each band lies apart.
        differences: which differences are stored instead of values; 1: none.
        packed: the compression.
        tile: length and width of its tiles; of strips the rows of one and the image's width.
        tiled: whether they are tiles.
        parts: where each strip or tile is, and how many bytes it has.
        more_frames: whether another picture follows.
        exif: what the file says of how, when and where.
    """

    height: int
    width: int
    count: int
    dtype: np.dtype[Any]
    alpha: int | None
    premultiplied: bool
    planes: bool
    differences: int
    packed: int
    tiled: bool
    tile: tuple[int, int]
    parts: tuple[tuple[int, int], ...]
    more_frames: bool
    exif: Image.Exif

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all bands of a pixel."""
        return self.count * self.dtype.itemsize

    @property
    def mode(self) -> str:
        """What `images.parquet` calls such pixels."""
        return f"{self.count}×{self.dtype.name}"

    @property
    def shown(self) -> list[int]:
        """The bands that are seen as red, green and blue, or the one that is seen as grey."""
        opaque = [band for band in range(self.count) if band != self.alpha]
        return opaque[:3] if len(opaque) >= 3 else opaque[:1]  # noqa: PLR2004 - a colour has three


def bands_of(stream: Any) -> Bands | None:
    """Say how the bands of the TIFF in *stream* are stored; None: Pillow gives it as it is, or not.

    Nothing but tags is read.
    """
    stream.seek(0)
    start = stream.read(4)
    if start not in HEADS:
        return None
    try:
        head = start + stream.read(HEADS[start] - len(start))
        tags = ImageFileDirectory_v2(head)
        stream.seek(tags.next)
        tags.load(stream)
        return _bands(tags, stream) if _counts(tags) and _is_ours(tags) else None
    except DECODER_ERRORS as error:
        reraise_storage_error(error)
        return None


def _all(tags: Any, tag: int, otherwise: int) -> tuple[int, ...]:
    value = tags.get(tag, (otherwise,))
    return value if isinstance(value, tuple) else (value,)


def _counts(tags: Any) -> bool:
    """Say whether all numbers that are gone by are whole; a damaged tag may hold a fraction."""
    numbers = (number for tag in NUMBERS for number in _all(tags, tag, 0))
    return all(isinstance(number, int) and number >= 0 for number in numbers)


def _is_ours(tags: Any) -> bool:
    count, packed = tags.get(SAMPLES, 1), tags.get(COMPRESSION, 1)
    bits, kinds = set(_all(tags, BITS, 1)), set(_all(tags, SAMPLE_FORMAT, 1))
    seen, extra = tags.get(PHOTOMETRIC), _all(tags, EXTRA, 0) if EXTRA in tags else ()
    differs = tags.get(PREDICTOR, 1)
    if not (count > 1 and len(bits) == len(kinds) == 1 and seen in {GREY, RGB}):
        return False
    if packed not in PACKED or (packed == PACKBITS and differs != 1):
        return False
    (depth,), (kind,) = bits, kinds
    if tags.get(FILL_ORDER, 1) != 1 or kind not in KINDS or differs not in {1, 2, 3}:
        return False
    if (differs == FLOATING) != (kind == 3 and differs != 1):  # noqa: PLR2004 - floats
        return False
    if depth in DEEP:
        return True
    more = count - (3 if seen == RGB else 1)
    has_only_alpha = more == 1 and extra[:1] and extra[0] in ALPHAS
    return bool(depth == BYTE and kind == 1 and more and not has_only_alpha)


def _bands(tags: Any, stream: Any) -> Bands | None:
    height, width, count = tags[LENGTH], tags[WIDTH], tags.get(SAMPLES, 1)
    tiled = TILES in tags
    if tiled:
        tile = tags[TILE_LENGTH], tags[TILE_WIDTH]
        places, sizes = tags[TILES], tags[TILE_BYTES]
    else:
        tile = min(tags.get(STRIP_ROWS, height), height), width
        places, sizes = tags[STRIPS], tags[STRIP_BYTES]
    planes = tags.get(PLANAR, 1) == SEPARATE
    down, across = -(-height // tile[0]), -(-width // tile[1])
    wanted = down * across * (count if planes else 1)
    if len(places) != wanted or len(sizes) != wanted or max(places) >= 2**32:
        return None
    if tile[0] * tile[1] > max(LARGE_TILE, 4 * height * width):
        return None
    kind = KINDS[_all(tags, SAMPLE_FORMAT, 1)[0]]
    order = "<" if tags.prefix == b"II" else ">"
    extra = _all(tags, EXTRA, 0) if EXTRA in tags else ()
    first = count - len(extra)
    alphas = [first + place for place, meaning in enumerate(extra) if meaning in ALPHAS]
    exif = Image.Exif()
    exif.endian, exif.bigtiff = order, bool(tags._bigtiff)  # noqa: SLF001
    exif.load_from_fp(stream, tags._offset)  # noqa: SLF001 - as Pillow's own TIFFs do
    return Bands(
        height=height,
        width=width,
        count=count,
        dtype=np.dtype(f"{order}{kind}{_all(tags, BITS, 1)[0] // BYTE}"),
        alpha=alphas[0] if alphas else None,
        premultiplied=bool(alphas) and extra[alphas[0] - first] == ASSOCIATED,
        planes=planes,
        differences=tags.get(PREDICTOR, 1),
        packed=tags.get(COMPRESSION, 1),
        tiled=tiled,
        tile=tile,
        parts=tuple(zip(places, sizes, strict=True)),
        more_frames=bool(tags.next),
        exif=exif,
    )


def opaque(pixels: Values, bands: Bands) -> Values:
    """Give the bands that are shown, [H, W, 1 or 3], as they are without transparency.

    Where nothing is seen they stay as they are stored, as Pillow has it for 8 bits.
    """
    shown = pixels[..., bands.shown]
    if not bands.premultiplied or bands.alpha is None:
        return shown
    alpha = pixels[..., bands.alpha].astype(np.float64)
    most = full(bands.dtype)
    partial = (alpha > 0) & (alpha < most)
    whole = np.clip(shown[partial] * (most / alpha[partial])[:, None], 0, most)
    shown[partial] = whole if bands.dtype.kind == "f" else np.rint(whole)
    return shown


def full(dtype: np.dtype[Any]) -> float:
    """Give the value of a transparency band that hides nothing."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def read_values(data: bytes, bands: Bands) -> Values:
    """Return the values of all bands: [H, W, bands], in this machine's byte order.

    Raises:
        Rejected: `truncated`.
    """
    try:
        return _read_values(data, bands)
    except MemoryError:
        raise  # the machine's fault and not the image's
    except DECODER_ERRORS as error:
        raise truncated(error) from error


def _read_values(data: bytes, bands: Bands) -> Values:
    found = np.empty((bands.height, bands.width, bands.count), bands.dtype.newbyteorder("="))
    planes = bands.count if bands.planes else 1
    own = len(bands.parts) // planes
    together = bands.count // planes
    for plane in range(planes):
        grey = _unpacked(data, bands, together, bands.parts[plane * own : (plane + 1) * own])
        read = _meant(grey, bands, together)
        found[..., plane * together : (plane + 1) * together] = read[:, : bands.width]
    return found


def _unpacked(
    data: bytes, bands: Bands, together: int, parts: Sequence[tuple[int, int]]
) -> NDArray[np.uint8]:
    """Give the bytes of every row, of tiles the ones beyond the border too."""
    length, wide = bands.tile
    each = wide * together * bands.dtype.itemsize
    across = -(-bands.width // wide)
    places, sizes = zip(*parts, strict=True)
    tags: dict[int, Sequence[int]] = {
        WIDTH: [across * each],
        LENGTH: [bands.height],
        BITS: [BYTE],
        COMPRESSION: [bands.packed],
        PHOTOMETRIC: [GREY],
        SAMPLES: [1],
        PLANAR: [1],
    }
    if bands.tiled:
        tags |= {TILE_WIDTH: [each], TILE_LENGTH: [length], TILES: places, TILE_BYTES: sizes}
    else:
        tags |= {STRIP_ROWS: [length], STRIPS: places, STRIP_BYTES: sizes}
    with Image.open(io.BytesIO(_rewritten(data, tags)), formats=("TIFF",)) as image:
        return np.asarray(image)


def _rewritten(data: bytes, tags: dict[int, Sequence[int]]) -> bytes:
    """Give the file as a little-endian TIFF with other tags; its strips or tiles stay in place."""
    at = len(data) + len(data) % 2
    behind = at + 2 + 12 * len(tags) + 4
    entries, long = [], []
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            long.append(packed)
            packed, behind = struct.pack("<I", behind), behind + len(packed)
        entries.append(struct.pack("<HHI", tag, 4, len(numbers)) + packed)
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4) + b"".join(long)
    head = struct.pack("<2sHI", b"II", 42, at)
    return b"".join([head, memoryview(data)[len(head) :], bytes(at - len(data)), directory])


def _meant(grey: NDArray[np.uint8], bands: Bands, together: int) -> Values:
    """Make values of bytes: [H, columns, bands that lie together]; differences are added up."""
    high, size, wide = bands.height, bands.dtype.itemsize, bands.tile[1]
    if bands.differences == FLOATING:
        steps = grey.reshape(high, -1, wide * size, together)  # of one tile's row
        planes = np.cumsum(steps, axis=2, dtype=np.uint8)
        planes = planes.reshape(high, -1, size, wide * together)  # the highest bytes first
        found = np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{size}")
    else:
        found = np.ascontiguousarray(grey).reshape(high, -1).view(bands.dtype)
    found = found.astype(bands.dtype.newbyteorder("="), copy=False)
    found = found.reshape(high, -1, wide, together)
    if bands.differences == DIFFERENCES:
        whole = f"u{size}"
        found = np.cumsum(found.view(whole), axis=2, dtype=whole).view(found.dtype)
    return found.reshape(high, -1, together)
