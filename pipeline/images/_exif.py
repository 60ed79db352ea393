"""What an image's EXIF block says of how, when and where it was taken."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from pipeline.images._faults import DAMAGED, pass_storage_errors

EXIF_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)


def exif_of(image: Image.Image) -> Image.Exif:
    """Give the EXIF block without decoding: a PNG's own getexif would read all its pixels."""
    try:
        return Image.Image.getexif(image)
    except DAMAGED as error:
        pass_storage_errors(error)
        return Image.Image.getexif(image)  # what could be read: Pillow does not read it again


def _sub(exif: Image.Exif, ifd: ExifTags.IFD) -> dict[int, Any]:
    try:
        return dict(exif.get_ifd(ifd))
    except DAMAGED as error:
        pass_storage_errors(error)
        return {}


def orientation(exif: Image.Exif) -> int:
    value = exif.get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1  # noqa: PLR2004 - EXIF


def captured_at(exif: Image.Exif) -> datetime | None:
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


def place(exif: Image.Exif) -> tuple[float | None, float | None]:
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
