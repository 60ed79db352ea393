"""Read an image's header: size, format, and what its EXIF block says."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from pipeline.core.errors import Rejected
from pipeline.images.decoder_errors import HEADER_ERRORS, reraise_storage_error
from pipeline.images.exif import captured_at, coordinates, orientation, read_exif
from pipeline.images.multiband import open_multiband, page_exif
from pipeline.images.opening import open_image
from pipeline.images.ranged_file import BLOCK_BYTES, RangedFile
from pipeline.storage import Object, Storage

MAX_PIXEL_BYTES = 16
"""The bands of a TIFF may take this many bytes for each of the `bucket.max_pixels`."""


def read_header(storage: Storage, item: Object, *, max_pixels: int) -> dict[str, Any]:
    """Return an image's row of schemas.HEADERS, read by ranged requests; no pixel is decoded.

    Raises:
        Rejected: `not_an_image`, `truncated`, `unsupported` or `too_many_pixels`; or as
            `Storage.read` does.
        Changed, Missing: the object is no longer the listed version.
    """
    if not item.size:
        raise Rejected("not_an_image", f"{item.key}: is empty")
    stream = io.BufferedReader(RangedFile(storage, item), BLOCK_BYTES)
    page = open_multiband(stream, item.key)
    if page is not None:
        width, height, dtype = page.imagewidth, page.imagelength, np.dtype(page.dtype)
        _check_size(item, (width, height), page.samplesperpixel * dtype.itemsize, max_pixels)
        file_format, mode = "TIFF", f"{page.samplesperpixel}×{dtype.name}"
        more_frames, exif = page.parent.pages.is_multipage, page_exif(page)
    else:
        image = open_image(stream, item.key)
        width, height = _stored_size(image)
        _check_size(item, (width, height), 1, max_pixels)
        file_format, mode = image.format or "", image.mode
        exif, more_frames = read_exif(image), _has_more_frames(image)
    latitude, longitude = coordinates(exif)
    return {
        "key": item.key,
        "version": item.version,
        "size": item.size,
        "width": width,
        "height": height,
        "format": file_format,
        "mode": mode,
        "more_frames": more_frames,
        "orientation": orientation(exif),
        "captured_at": captured_at(exif),
        "latitude": latitude,
        "longitude": longitude,
    }


def _check_size(item: Object, size: tuple[int, int], pixel_bytes: int, max_pixels: int) -> None:
    """Raise Rejected, `too_many_pixels`, if width × height or its bytes are over the limit."""
    width, height = size
    pixels, limit = f"{width:,} × {height:,} pixels", f"over bucket.max_pixels {max_pixels:,}"
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{item.key}: {pixels}, {limit}")
    if width * height * pixel_bytes > MAX_PIXEL_BYTES * max_pixels:
        message = f"{pixels} of {pixel_bytes} bytes, {limit} of {MAX_PIXEL_BYTES} bytes"
        raise Rejected("too_many_pixels", f"{item.key}: {message}")


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height as stored; Pillow swaps those of a TIFF that is turned sideways."""
    if image.format != "TIFF":
        return image.size
    tags = image.tag_v2  # type: ignore[attr-defined]
    return tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]


def _has_more_frames(image: Image.Image) -> bool:
    """Return True if another picture follows the first; a GIF's first frame is read to find out."""
    try:
        return bool(getattr(image, "is_animated", False))
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        return False  # what follows is not a picture
