"""Write a chip as an image file whose EXIF block says which chip it is, where and when.

In this process: starting a tool for each chip would take far longer than encoding it.
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

ChipFormat = Literal["png", "jpeg"]
EXTENSIONS: dict[ChipFormat, str] = {"png": "png", "jpeg": "jpg"}

SAVE_OPTIONS: dict[ChipFormat, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1},
    "jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
"""PNG at level 1: 5 % larger than at Pillow's default 6, in a third of the time (chips of a reef).
JPEG with colour at full resolution: most chips are small."""

SECOND_PARTS = 10_000
"""Coordinates keep ten-thousandths of a second of arc: 3 mm on the ground."""

GPS_VERSION = b"\x02\x03\x00\x00"


@dataclass(frozen=True, slots=True)
class ExifFields:
    """What a chip's EXIF block says.

    Attributes:
        chip_id: 16 bytes, written to ImageUniqueID as 32 hex digits.
        latitude: degrees north, or None.
        longitude: degrees east, or None.
        captured_at: in the camera's time, or None.
    """

    chip_id: bytes
    latitude: float | None = None
    longitude: float | None = None
    captured_at: datetime | None = None


def encode_chip(pixels: Pixels, kind: ChipFormat, fields: ExifFields) -> bytes:
    """Return *pixels* as an image file; the same pixels and fields give the same bytes.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        kind: PNG is lossless.
        fields: of its EXIF block.
    """
    file = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(file, exif=exif_block(fields), **SAVE_OPTIONS[kind])
    return file.getvalue()


def exif_block(fields: ExifFields) -> bytes:
    """Return the EXIF block of *fields*.

    Source: CIPA DC-008 (Exif 2.32): DateTimeOriginal as `YYYY:MM:DD HH:MM:SS`, its fraction in
    SubSecTimeOriginal; coordinates as unsigned degrees, minutes and seconds in a hemisphere.
    """
    exif = Image.Exif()
    photo = exif.get_ifd(ExifTags.IFD.Exif)
    photo[ExifTags.Base.ImageUniqueID] = fields.chip_id.hex()
    time = fields.captured_at
    if time is not None:
        day = f"{time.year:04d}:{time.month:02d}:{time.day:02d}"
        photo[ExifTags.Base.DateTimeOriginal] = f"{day} {time:%H:%M:%S}"
        if time.microsecond:
            photo[ExifTags.Base.SubsecTimeOriginal] = f"{time.microsecond:06d}".rstrip("0")
    if fields.latitude is not None and fields.longitude is not None:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSVersionID] = GPS_VERSION
        gps[ExifTags.GPS.GPSLatitudeRef] = "S" if fields.latitude < 0 else "N"
        gps[ExifTags.GPS.GPSLatitude] = _angle(fields.latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "W" if fields.longitude < 0 else "E"
        gps[ExifTags.GPS.GPSLongitude] = _angle(fields.longitude)
    return exif.tobytes()


def _angle(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Return the unsigned angle in degrees, minutes and seconds, rounded before it is divided."""
    minutes, parts = divmod(round(abs(degrees) * 3600 * SECOND_PARTS), 60 * SECOND_PARTS)
    whole, minutes = divmod(minutes, 60)
    return IFDRational(whole), IFDRational(minutes), IFDRational(parts, SECOND_PARTS)
