"""Read from an image's EXIF block how, when and where it was taken."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from pipeline.images.decoder_errors import HEADER_ERRORS, reraise_storage_error

EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)


def read_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF block without decoding: a PNG's own getexif would decode all its pixels."""
    try:
        return Image.Image.getexif(image)
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        return Image.Image.getexif(image)  # the part already read: Pillow does not parse it again


def _sub_directory(exif: Image.Exif, ifd: ExifTags.IFD) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(ifd))
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        return {}


def orientation(exif: Image.Exif) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or it is invalid."""
    value = exif.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004 - EXIF


def captured_at(exif: Image.Exif) -> datetime | None:
    """Return DateTimeOriginal, else DateTime, with the fraction of a second, in camera time."""
    photo = _sub_directory(exif, ExifTags.IFD.Exif)
    original = _parse_time(
        photo.get(ExifTags.Base.DateTimeOriginal), photo.get(ExifTags.Base.SubsecTimeOriginal)
    )
    return original or _parse_time(
        exif.get(ExifTags.Base.DateTime), photo.get(ExifTags.Base.SubsecTime)
    )


def _parse_time(value: Any, fraction: Any) -> datetime | None:
    match = EXIF_TIME.match(value) if isinstance(value, str) else None
    if not match:
        return None
    digits = re.match(r"\d*", fraction, re.ASCII) if isinstance(fraction, str) else None
    microsecond = int((digits[0] if digits else "").ljust(6, "0")[:6])
    try:
        time = datetime(*map(int, match.groups()))  # type: ignore[arg-type]  # noqa: DTZ001
        return time.replace(microsecond=microsecond)
    except ValueError:
        return None


def coordinates(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees, south and west negative; both None if unknown."""
    gps = _sub_directory(exif, ExifTags.IFD.GPSInfo)
    latitude = _degrees(gps.get(2), gps.get(1), "NS", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "EW", 180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _degrees(parts: Any, hemisphere: Any, letters: str, limit: int) -> float | None:
    """Return the signed angle; None if it is malformed or above *limit*.

    The first of *letters* is the positive hemisphere, the second the negative one.
    """
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
        letter = hemisphere.decode() if isinstance(hemisphere, bytes) else str(hemisphere)
        sign = {letters[0]: 1, letters[1]: -1}[letter.strip("\0 ").upper()]
    except HEADER_ERRORS:
        return None
    value = degrees + minutes / 60 + seconds / 3600
    return sign * value if math.isfinite(value) and 0 <= value <= limit else None
