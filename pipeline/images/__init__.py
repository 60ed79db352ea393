"""Images: what their headers say, and every decision about their pixels.

Rows and columns are those of the stored pixels, as in PySpacer and CoralNet: the EXIF orientation
is recorded and never applied, not even to a TIFF, which Pillow turns by itself. Truncated images
are refused, never filled up with grey. Of several pictures in one file, the first is taken. A TIFF
of deep bands, or of more bands than a picture has, is unpacked by pipeline/images/_bands.py.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from pipeline.config.sections import ExtractParams, NoData
from pipeline.core.errors import Rejected
from pipeline.images._bands import Bands, Values, bands_of, full, opaque, values
from pipeline.images._exif import captured_at, exif_of, orientation, place
from pipeline.images._faults import DAMAGED, pass_storage_errors
from pipeline.images._opening import opened
from pipeline.images._png import has_all_rows
from pipeline.images._ranged import BLOCK_BYTES, RangedFile
from pipeline.storage import Object, Storage

VERSION = 4

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
    "HSV",
}
"""Not LAB: what its white is, each decoder takes for something else."""

ENDS_EARLY = "premature end of data segment"
"""What libjpeg warns of."""

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

BYTES_A_PIXEL = 16
"""So many may a TIFF's bands have, for each of the pixels that `bucket.max_pixels` lets through."""

NOT_BUILT_IN = {"webp", "zstd", "lzma", "tiff_sgilog", "tiff_sgilog24"}
"""Compressions of TIFF that libtiff may have been built without; it says so only when decoding."""


def header(storage: Storage, item: Object, *, max_pixels: int) -> dict[str, Any]:
    """Read what schemas.HEADERS holds of one image, by ranged reads; no pixel is decoded.

    Raises:
        Rejected: `not_an_image`, `truncated`, `unsupported`, or `too_many_pixels`; or as
            `Storage.read` does.
        Changed, Missing: the object is not the listed version any more.
    """
    if not item.size:
        raise Rejected("not_an_image", f"{item.key}: is empty")
    stream = io.BufferedReader(RangedFile(storage, item), BLOCK_BYTES)
    bands = bands_of(stream)
    if bands is not None:
        _check_size(item, bands.width, bands.height, bands.pixel_bytes, max_pixels)
        found: dict[str, Any] = {"width": bands.width, "height": bands.height}
        found |= {"format": "TIFF", "mode": bands.mode, "more_frames": bands.more_frames}
        exif = bands.exif
    else:
        image = opened(stream, item.key)
        width, height = _stored_size(image)
        _check_size(item, width, height, 1, max_pixels)
        found = {"width": width, "height": height, "format": image.format, "mode": image.mode}
        exif = exif_of(image)
        found |= {"more_frames": _has_more_frames(image)}
    found |= {"key": item.key, "version": item.version, "size": item.size}
    found |= {"orientation": orientation(exif), "captured_at": captured_at(exif)}
    return found | dict(zip(("latitude", "longitude"), place(exif), strict=True))


def _check_size(item: Object, width: int, height: int, each: int, max_pixels: int) -> None:
    """See that an image of so many pixels, of *each* bytes, is let through.

    Raises:
        Rejected: it is not.
    """
    over = f"over bucket.max_pixels {max_pixels:,}"
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{item.key}: {width:,} × {height:,} pixels, {over}")
    if width * height * each > BYTES_A_PIXEL * max_pixels:
        many = f"{width:,} × {height:,} pixels of {each} bytes"
        raise Rejected("too_many_pixels", f"{item.key}: {many}, {over} of {BYTES_A_PIXEL} bytes")


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


def decode(data: bytes, *, extract: ExtractParams) -> NDArray[np.uint8]:
    """Decode the first frame of an image.

    Args:
        data: the object's bytes, whole.
        extract: `intensity_range` says how values deeper than 8 bits become 0 to 255,
            `grey_intensity_range` how grey ones of 8 bits do; `alpha` what lies under transparency.
            Of three bands or more the first three are red, green and blue; of two the first is
            grey.

    Returns:
        uint8 [H, W, 3], RGB, in the stored orientation.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    bands = bands_of(io.BytesIO(data))
    if bands is not None:
        return _picture(_unpacked(data, bands), bands, extract)
    image = opened(io.BytesIO(data), "the object")
    if image.format in JPEGS:
        pixels = _jpeg(data, "CMYK" if image.mode == "CMYK" else "RGB")
        if pixels is not None and image.mode in {"RGB", "L"}:
            return _stretched(pixels, image.mode, extract)
    stored = _loaded(image)
    if image.format == "PNG" and not has_all_rows(data, stored):
        raise Rejected("truncated", "the image's data end early: they have not all of its rows")
    try:
        return _rgb(stored, extract)
    except DAMAGED as error:
        raise Rejected(
            "unsupported", f"pixels of mode {stored.mode!r} cannot be converted: {error}"
        ) from error


def _jpeg(data: bytes, colours: str) -> NDArray[np.uint8] | None:
    """Decode a JPEG without the copy that Pillow's pixels take.

    What this so much as warns of, Pillow decides; but not of data that end early: grey is laid
    where they are missing, and Pillow says nothing.
    """
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colours, strict=True)
    except ValueError as error:
        if ENDS_EARLY in str(error):
            sentence = f"the image's data end early or are damaged: {error}"
            raise Rejected("truncated", sentence) from error
        return None
    return pixels


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
    bands = bands_of(io.BytesIO(data))
    if bands is not None:
        return _shown(_unpacked(data, bands), bands.alpha, nodata)
    image = opened(io.BytesIO(data), "the object")
    _check_whole(image)
    stored = _loaded(image)
    if nodata == "alpha":
        if not stored.has_transparency_data:
            return np.ones((stored.height, stored.width), bool)
        own = stored if stored.mode in {"RGBA", "LA", "PA"} else stored.convert("RGBA")
        seen: NDArray[np.bool_] = np.asarray(own.getchannel("A")) != 0
        return seen
    pixels = np.asarray(stored.convert("L") if stored.mode == "1" else stored)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    has_alpha = stored.mode.endswith(("A", "a", "X"))
    return _shown(pixels, pixels.shape[2] - 1 if has_alpha else None, nodata)


def _shown(pixels: Values, alpha: int | None, nodata: NoData) -> NDArray[np.bool_]:
    """Say which of *pixels* [H, W, bands] show something; *alpha*: which band is transparency."""
    if nodata == "alpha":
        if alpha is None:
            return np.ones(pixels.shape[:2], bool)
        opaque: NDArray[np.bool_] = pixels[..., alpha] != 0
        return opaque
    shown: NDArray[np.bool_] = np.zeros(pixels.shape[:2], bool)
    for number, band in enumerate(np.moveaxis(pixels, 2, 0)):  # all at once takes thrice as long
        if number != alpha:
            differs = band != nodata
            shown |= differs & ~np.isnan(band) if band.dtype.kind == "f" else differs
    return shown


def _check_whole(image: Image.Image) -> None:
    """See that Pillow gives all bands of *image* and all of their bits.

    Raises:
        Rejected: it does not, so that no-data cannot be told from what resembles it.
    """
    args = next((str(part[3]) for part in image.tile), "")  # type: ignore[attr-defined]
    is_less_deep = ";16" in args and image.mode not in DEEP
    if is_less_deep or (image.format == "TIFF" and image.mode in {"RGB", "L"} and "X" in args):
        raise Rejected(
            "unsupported",
            f"of {image.format} with bands of 16 bits a colour, or beside the colours, no-data is "
            "not seen here; save it as TIFF, without JPEG's compression",
        )


def _unpacked(data: bytes, bands: Bands) -> Values:
    try:
        return values(data, bands)
    except MemoryError:
        raise  # the machine's fault and not the image's
    except DAMAGED as error:
        raise _ends_early(error) from error


def _ends_early(error: BaseException) -> Rejected:
    return Rejected("truncated", f"the image's data end early or are damaged: {error}")


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
        raise _ends_early(error) from error


def _stored(image: Image.Image) -> Image.Image:
    """Load *image* with its pixels as they are stored: Pillow turns a TIFF while loading it."""
    turn = TURNED_BACK.get(orientation(exif_of(image))) if image.format == "TIFF" else None
    image.load()
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, extract: ExtractParams) -> NDArray[np.uint8]:
    if image.mode in DEEP:
        return _scaled(np.asarray(image), extract.intensity_range)
    if image.mode not in PLAIN:
        raise Rejected("unsupported", f"pixels of mode {image.mode!r} are not defined here")
    mode = image.mode
    if extract.alpha != "drop" and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, extract.alpha)
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return _stretched(pixels, mode, extract)


def _picture(pixels: Values, bands: Bands, extract: ExtractParams) -> NDArray[np.uint8]:
    """Make uint8 [H, W, 3] of a TIFF's bands."""
    shown = opaque(pixels, bands)
    if bands.dtype.itemsize > 1:
        picture = _levelled(shown, extract.intensity_range)
    elif len(bands.shown) == 1 and extract.grey_intensity_range is not None:
        picture = _levelled(shown, extract.grey_intensity_range)
    else:
        picture = shown
    if extract.alpha != "drop" and bands.alpha is not None:
        alpha = pixels[..., bands.alpha, None].astype(np.float32)
        share = np.clip(alpha / full(bands.dtype), 0, 1)
        ground = 255 if extract.alpha == "white" else 0
        picture = np.rint(picture * share + ground * (1 - share)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _stretched(pixels: NDArray[np.uint8], mode: str, extract: ExtractParams) -> NDArray[np.uint8]:
    """Map `extract.grey_intensity_range` to 0 and 255, if the image is stored as grey."""
    if extract.grey_intensity_range is None or mode not in GREY:
        return pixels
    table = _scaled(np.arange(256).reshape(1, -1), extract.grey_intensity_range)[0, :, 0]
    found: NDArray[np.uint8] = table[pixels]
    return found


def _scaled(pixels: Values, levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Make grey [H, W, 3] of [H, W]."""
    return np.repeat(_levelled(pixels, levels)[:, :, None], 3, axis=2)


def _levelled(pixels: Values, levels: tuple[float, float]) -> NDArray[np.uint8]:
    """Map *levels* to 0 and 255: Pillow's own conversion clips a 16-bit picture to white."""
    black, white = levels
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped
        share = (pixels.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    grey: NDArray[np.uint8]
    grey = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * 255).astype(np.uint8)
    return grey
