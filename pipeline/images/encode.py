"""Pictures: a chip's pixels as an image file, whose EXIF says which chip it is, where and when.

Written in this process: to start a tool for every chip takes far longer than to make it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from pipeline.images.windows import Pixels

VERSION = 1

Kind = Literal["png", "jpeg"]
ENDINGS: dict[Kind, str] = {"png": "png", "jpeg": "jpg"}

SAVED: dict[Kind, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
"""PNG at level 1: 5 % larger than at Pillow's own 6, in a third of the time (chips of a reef). JPEG
with colours as sharp as the light: most chips are small."""

SECOND = 10_000
"""Parts of a second of arc that are kept: 3 mm on the ground."""

GPS_VERSION = b"\x02\x03\x00\x00"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a chip beside its pixels.

    Attributes:
        chip_id: 16 bytes, which become EXIF's ImageUniqueID as they stand there: 32 hex digits.
        latitude: degrees north; None: unknown.
        longitude: degrees east.
        captured_at: in the camera's own time.
    """

    chip_id: bytes
    latitude: float | None = None
    longitude: float | None = None
    captured_at: datetime | None = None


def encode(pixels: Pixels, kind: Kind, facts: Facts) -> bytes:
    """Give *pixels* as an image file: the same pixels and facts give the same bytes.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        kind: PNG loses nothing.
        facts: what its EXIF says.
    """
    sink = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(sink, exif=exif(facts), **SAVED[kind])
    return sink.getvalue()


def exif(facts: Facts) -> bytes:
    """Give the EXIF block of *facts*.

    Source: CIPA DC-008 (Exif 2.32): DateTimeOriginal as `YYYY:MM:DD HH:MM:SS`, its fraction in
    SubSecTimeOriginal; GPS places as degrees, minutes and seconds of a hemisphere, never negative.
    """
    block = Image.Exif()
    own = block.get_ifd(ExifTags.IFD.Exif)
    own[ExifTags.Base.ImageUniqueID] = facts.chip_id.hex()
    at = facts.captured_at
    if at is not None:
        day = f"{at.year:04d}:{at.month:02d}:{at.day:02d}"
        own[ExifTags.Base.DateTimeOriginal] = f"{day} {at:%H:%M:%S}"
        if at.microsecond:
            own[ExifTags.Base.SubsecTimeOriginal] = f"{at.microsecond:06d}".rstrip("0")
    if facts.latitude is not None and facts.longitude is not None:
        gps = block.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSVersionID] = GPS_VERSION
        gps[ExifTags.GPS.GPSLatitudeRef] = "S" if facts.latitude < 0 else "N"
        gps[ExifTags.GPS.GPSLatitude] = _angle(facts.latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "W" if facts.longitude < 0 else "E"
        gps[ExifTags.GPS.GPSLongitude] = _angle(facts.longitude)
    return block.tobytes()


def _angle(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Give an angle without its sign in degrees, minutes and seconds; 60 seconds never stand."""
    minutes, parts = divmod(round(abs(degrees) * 3600 * SECOND), 60 * SECOND)
    whole, minutes = divmod(minutes, 60)
    return IFDRational(whole), IFDRational(minutes), IFDRational(parts, SECOND)
