"""Images: what their headers say, and every decision about their pixels.

Rows and columns are those of the stored pixels, as in PySpacer and CoralNet: the EXIF orientation
is recorded and never applied, not even to a TIFF, which Pillow turns by itself. Truncated images
are refused, never filled up with grey. Of several pictures in one file, the first is taken.
"""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from pipeline.errors import Rejected
from pipeline.images._exif import captured_at, exif_of, orientation, place
from pipeline.images._faults import DAMAGED, pass_storage_errors
from pipeline.images._opening import opened
from pipeline.images._ranged import BLOCK_BYTES, RangedFile
from pipeline.sections import Extract, NoData
from pipeline.storage import Object, Storage

VERSION = 2

Image.MAX_IMAGE_PIXELS = None  # our own limit, bucket.max_pixels, is checked before decoding

# Pillow warns of corrupt EXIF and the like, which is no reject. Once and for all, because
# `catch_warnings` in several threads leaves the process with every warning switched off.
warnings.filterwarnings("ignore", module=r"PIL\.")

JPEGS = {"JPEG", "MPO"}
"""MPO, which some cameras write: JPEGs one after the other, of which the first is the picture."""

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

GREY = {"L", "LA", "La"}
"""Of 8 bits."""

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

NOT_BUILT_IN = {"webp", "zstd", "lzma", "tiff_sgilog", "tiff_sgilog24"}
"""Compressions of TIFF that libtiff may have been built without; it says so only when decoding."""


def header(storage: Storage, item: Object, *, max_pixels: int) -> dict[str, Any]:
    """Read what schemas.HEADERS holds of one image, by ranged reads; no pixel is decoded.

    Raises:
        Rejected: `not_an_image`, `truncated`, `unsupported`, or `too_many_pixels`.
        Changed, Missing: the object is not the listed version any more.
    """
    if not item.size:
        raise Rejected("not_an_image", f"{item.key}: is empty")
    image = opened(io.BufferedReader(RangedFile(storage, item), BLOCK_BYTES), item.key)
    width, height = _stored_size(image)
    if width * height > max_pixels:
        raise Rejected(
            "too_many_pixels",
            f"{item.key}: {width:,} × {height:,} pixels, over bucket.max_pixels {max_pixels:,}",
        )
    exif = exif_of(image)
    found = {"key": item.key, "version": item.version, "size": item.size}
    found |= {"width": width, "height": height, "format": image.format, "mode": image.mode}
    found |= {"orientation": orientation(exif), "captured_at": captured_at(exif)}
    found |= dict(zip(("latitude", "longitude"), place(exif), strict=True))
    return found | {"more_frames": _has_more_frames(image)}


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Give width and height as stored; Pillow swaps them for a TIFF that lies on its side."""
    if image.format != "TIFF":
        return image.size
    tags = image.tag_v2  # type: ignore[attr-defined]
    return tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]


def _has_more_frames(image: Image.Image) -> bool:
    """Say whether another picture follows the first; of a GIF that takes reading the first."""
    try:
        return bool(getattr(image, "is_animated", False))
    except DAMAGED as error:
        pass_storage_errors(error)
        return False  # what follows is no picture


def decode(data: bytes, *, extract: Extract) -> NDArray[np.uint8]:
    """Decode the first frame of an image.

    Args:
        data: the object's bytes, whole.
        extract: `levels` says how values deeper than 8 bits become 0 to 255, `grey_levels` how
            grey ones of 8 bits do; `alpha` what lies under transparency.

    Returns:
        uint8 [H, W, 3], RGB, in the stored orientation.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    image = opened(io.BytesIO(data), "the object")
    if image.format in JPEGS and image.mode in {"RGB", "L"}:
        # Without the copy that Pillow's pixels take. What it so much as warns of, Pillow decides.
        with suppress(ValueError):
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
            return _stretched(pixels, image.mode, extract)
    stored = _loaded(image)
    try:
        return _rgb(stored, extract)
    except DAMAGED as error:
        raise Rejected(
            "unsupported", f"pixels of mode {stored.mode!r} cannot be converted: {error}"
        ) from error


def valid(data: bytes, nodata: NoData) -> NDArray[np.bool_]:
    """Say which pixels of the first frame of an image show something: bool [H, W].

    Args:
        data: the object's bytes, whole.
        nodata: what the others have: a value, in all of their bands and before any is scaled or
            converted (of a deep image NaN too; transparency is no band, and a palette's values
            are its numbers); or "alpha", for those that are wholly transparent.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    stored = _loaded(opened(io.BytesIO(data), "the object"))
    if nodata == "alpha":
        if not stored.has_transparency_data:
            return np.ones((stored.height, stored.width), bool)
        own = stored if stored.mode in {"RGBA", "LA", "PA"} else stored.convert("RGBA")
        seen: NDArray[np.bool_] = np.asarray(own.getchannel("A")) != 0
        return seen
    bands = np.asarray(stored.convert("L") if stored.mode == "1" else stored)
    bands = bands.reshape(*bands.shape[:2], -1)
    n_opaque = bands.shape[2] - stored.mode.endswith(("A", "a", "X"))
    shown: NDArray[np.bool_] = np.zeros(bands.shape[:2], bool)
    for band in np.moveaxis(bands, 2, 0)[:n_opaque]:  # all at once takes three times as long
        shown |= (band != nodata) & ~np.isnan(band) if band.dtype.kind == "f" else band != nodata
    return shown


def _loaded(image: Image.Image) -> Image.Image:
    """Load *image* with its pixels as they are stored, or say why it cannot be."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # PySpacer, where it is imported, switches it on
    try:
        return _stored(image)
    except MemoryError:
        raise  # the machine's fault and not the image's: no reject that would last
    except DAMAGED as error:
        packed = image.info.get("compression")
        if image.format == "TIFF" and packed in NOT_BUILT_IN:
            sentence = f"TIFF compressed by {packed} cannot be decoded, or is damaged: {error}"
            raise Rejected("unsupported", sentence) from error
        raise Rejected(
            "truncated", f"the image's data end early or are damaged: {error}"
        ) from error


def _stored(image: Image.Image) -> Image.Image:
    """Load *image* with its pixels as they are stored: Pillow turns a TIFF while loading it."""
    turn = TURNED_BACK.get(orientation(exif_of(image))) if image.format == "TIFF" else None
    image.load()
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, extract: Extract) -> NDArray[np.uint8]:
    if image.mode in DEEP:
        return _scaled(np.asarray(image), extract.levels)
    if image.mode not in PLAIN:
        raise Rejected("unsupported", f"pixels of mode {image.mode!r} are not defined here")
    mode = image.mode
    if extract.alpha != "drop" and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, extract.alpha)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _stretched(pixels, mode, extract)


def _stretched(pixels: NDArray[np.uint8], mode: str, extract: Extract) -> NDArray[np.uint8]:
    """Map `extract.grey_levels` to 0 and 255, if the image is stored as grey."""
    if extract.grey_levels is None or mode not in GREY:
        return pixels
    table = _scaled(np.arange(256).reshape(1, -1), extract.grey_levels)[0, :, 0]
    found: NDArray[np.uint8] = table[pixels]
    return found


def _scaled(values: NDArray[Any], levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Map *levels* to 0 and 255: Pillow's own conversion clips a 16-bit picture to white."""
    black, white = levels
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped
        share = (values.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    grey = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
