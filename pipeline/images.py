"""Images: what their headers say, and every decision about their pixels.

Rows and columns are those of the stored pixels, as in PySpacer and CoralNet: the EXIF orientation
is recorded and never applied, not even to a TIFF, which Pillow turns by itself. Truncated images
are refused, never filled up with grey.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from pipeline.errors import Rejected, StorageError
from pipeline.sections import Extract
from pipeline.storage import Object, Storage

VERSION = 1

BLOCK_BYTES = 65_536

Image.MAX_IMAGE_PIXELS = None  # our own limit, bucket.max_pixels, is checked before decoding

# Pillow warns of corrupt EXIF and the like, which is no reject. Once and for all, because
# `catch_warnings` in several threads leaves the process with every warning switched off.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
"""What is decoded at all. Others guess without a signature (TGA, PCX), or start a program on the
bucket's bytes (EPS: Ghostscript), if that is there."""

JPEGS = {"JPEG", "MPO"}
"""MPO, which some cameras write: JPEGs one after the other, of which the first is the picture."""

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

DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
PLAIN = {
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "RGBX",
    "RGBa",
    "LA",
    "PA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
}

TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes an orientation; 6 and 8 are each other's."""

EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)


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
        data = self.storage.read(
            self.item.key, start=start, stop=stop, if_version=self.item.version
        )
        for number in range(first, last + 1):
            offset = (number - first) * BLOCK_BYTES
            self.blocks[number] = data[offset : offset + BLOCK_BYTES]


def header(storage: Storage, item: Object, *, max_pixels: int) -> dict[str, Any]:
    """Read what schemas.HEADERS holds of one image, by ranged reads; no pixel is decoded.

    Raises:
        Rejected: `not_an_image`, or `too_many_pixels`.
        Changed, Missing: the object is not the listed version any more.
    """
    if not item.size:
        raise Rejected("not_an_image", f"{item.key}: is empty")
    image = _opened(io.BufferedReader(RangedFile(storage, item), BLOCK_BYTES), item.key)
    width, height = _stored_size(image)
    if width * height > max_pixels:
        raise Rejected(
            "too_many_pixels",
            f"{item.key}: {width:,} × {height:,} pixels, over bucket.max_pixels {max_pixels:,}",
        )
    exif = _exif(image)
    found = {"key": item.key, "version": item.version, "size": item.size}
    found |= {"width": width, "height": height, "format": image.format, "mode": image.mode}
    found |= {"orientation": _orientation(exif), "captured_at": _captured_at(exif)}
    return found | dict(zip(("latitude", "longitude"), _place(exif), strict=True))


def _opened(stream: Any, name: str) -> Image.Image:
    try:
        return Image.open(stream, formats=FORMATS)
    except DAMAGED as error:
        _pass_storage_errors(error)
        raise Rejected("not_an_image", f"{name}: no decoder knows it as an image") from error


def _pass_storage_errors(error: BaseException) -> None:
    """Pillow's plugins wrap what reading raises; a bucket's fault is not the image's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StorageError):
            raise cause
        cause = cause.__cause__ or cause.__context__


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Give width and height as stored; Pillow swaps them for a TIFF that lies on its side."""
    if image.format != "TIFF":
        return image.size
    tags = image.tag_v2  # type: ignore[attr-defined]
    return tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]


def _exif(image: Image.Image) -> Image.Exif:
    """Give the EXIF block without decoding: a PNG's own getexif would read all its pixels."""
    try:
        return Image.Image.getexif(image)
    except DAMAGED as error:
        _pass_storage_errors(error)
        return Image.Image.getexif(image)  # what could be read: Pillow does not read it again


def _sub(exif: Image.Exif, ifd: ExifTags.IFD) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(ifd))
    except DAMAGED as error:
        _pass_storage_errors(error)
        return {}


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004 - EXIF


def _captured_at(exif: Image.Exif) -> datetime | None:
    """Read DateTimeOriginal, else DateTime, with their fractions, in the camera's own time."""
    own = _sub(exif, ExifTags.IFD.Exif)
    original = _time(
        own.get(ExifTags.Base.DateTimeOriginal), own.get(ExifTags.Base.SubsecTimeOriginal)
    )
    return original or _time(exif.get(ExifTags.Base.DateTime), own.get(ExifTags.Base.SubsecTime))


def _time(value: Any, fraction: Any) -> datetime | None:
    found = EXIF_TIME.match(value) if isinstance(value, str) else None
    if not found:
        return None
    digits = re.match(r"\d*", fraction, re.ASCII) if isinstance(fraction, str) else None
    microsecond = int((digits[0] if digits else "").ljust(6, "0")[:6])
    try:
        at = datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # noqa: DTZ001
        return at.replace(microsecond=microsecond)
    except ValueError:
        return None


def _place(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Give latitude and longitude in degrees, south and west negative."""
    gps = _sub(exif, ExifTags.IFD.GPSInfo)
    latitude = _degrees(gps.get(2), gps.get(1), "NS", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "EW", 180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _degrees(parts: Any, side: Any, sides: str, limit: int) -> float | None:
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
        letter = side.decode() if isinstance(side, bytes) else str(side)
        sign = {sides[0]: 1, sides[1]: -1}[letter.strip("\0 ").upper()]
    except DAMAGED:
        return None
    value = degrees + minutes / 60 + seconds / 3600
    return sign * value if math.isfinite(value) and 0 <= value <= limit else None


def decode(data: bytes, *, extract: Extract) -> NDArray[np.uint8]:
    """Decode the first frame of an image.

    Args:
        data: the object's bytes, whole.
        extract: `levels` says how values deeper than 8 bits become 0 to 255; `alpha` what lies
            under transparency.

    Returns:
        uint8 [H, W, 3], RGB, in the stored orientation.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    image = _opened(io.BytesIO(data), "the object")
    if image.format in JPEGS and image.mode in {"RGB", "L"}:
        # Without the copy that Pillow's pixels take. What it so much as warns of, Pillow decides.
        with suppress(ValueError):
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
            return pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # PySpacer, where it is imported, switches it on
    try:
        stored = _stored(image)
    except MemoryError:
        raise  # the machine's fault and not the image's: no reject that would last
    except DAMAGED as error:
        raise Rejected(
            "truncated", f"the image's data end early or are damaged: {error}"
        ) from error
    try:
        return _rgb(stored, extract)
    except DAMAGED as error:
        raise Rejected(
            "unsupported", f"pixels of mode {stored.mode!r} cannot be converted: {error}"
        ) from error


def _stored(image: Image.Image) -> Image.Image:
    """Load *image* with its pixels as they are stored: Pillow turns a TIFF while loading it."""
    turn = TURNED_BACK.get(_orientation(_exif(image))) if image.format == "TIFF" else None
    image.load()
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, extract: Extract) -> NDArray[np.uint8]:
    if image.mode in DEEP:
        return _scaled(np.asarray(image), extract.levels)
    if image.mode not in PLAIN:
        raise Rejected("unsupported", f"pixels of mode {image.mode!r} are not defined here")
    if extract.alpha != "drop" and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, extract.alpha)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _scaled(values: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Map *levels* to 0 and 255: Pillow's own conversion clips a 16-bit picture to white."""
    black, white = levels
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped
        share = (values.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    grey = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
