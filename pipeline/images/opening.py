"""Open images with Pillow and load their stored pixels, or say why that is not possible."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

from PIL import Image, ImageFile

from pipeline.core.errors import Rejected
from pipeline.images.decoder_errors import (
    DECODER_ERRORS,
    HEADER_ERRORS,
    reraise_storage_error,
    truncated,
)
from pipeline.images.exif import orientation, read_exif
from pipeline.images.png import check_png
from pipeline.images.tiff_checks import (
    check_deflate,
    deflated_parts,
    tiff_problems,
    unsupported_tiff,
)

Image.MAX_IMAGE_PIXELS = None  # our own limit, bucket.max_pixels, is checked before decoding

# Pillow warns of corrupt EXIF and the like, which is no reason to reject an image. The filter is
# set once: `catch_warnings` in several threads would leave every warning of the process off.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
"""The formats that are decoded. Pillow's others guess without a signature (TGA, PCX), or run a
program on the file's bytes (EPS: Ghostscript)."""

START_BYTES = 32
UNSUPPORTED_FORMATS = (
    ("HEIC", re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("JPEG XR", re.compile(rb"II\xbc")),
    ("big-endian BigTIFF", re.compile(rb"MM\0\x2b")),
    ("Photoshop", re.compile(rb"8BPS")),
)
"""Formats that cameras and programs write, often with another format's file name, and that Pillow
cannot read; with their first bytes."""

UNSUPPORTED = re.compile(r"cannot handle|unknown|unsupported|not (yet )?supported", re.IGNORECASE)
"""How Pillow's plugins report an undamaged file that they have no decoder for."""

PLUGIN_MESSAGES = {
    "not identified by this driver": "its pixel format is missing",
    "string index out of range": "unknown order of bands",
}
"""Messages of the plugins, and what they mean."""

MARKER, JPEG_LS = 0xFF, 0xF7
FRAME_MARKERS = {JPEG_LS, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MAX_SEGMENTS = 1_000

UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""By EXIF orientation, what undoes it; 6 and 8 are each other's inverse."""

OPTIONAL_COMPRESSIONS = {"webp", "zstd", "lzma", "tiff_sgilog", "tiff_sgilog24"}
"""TIFF compressions that libtiff may have been built without; only decoding shows it."""


def open_image(stream: Any, name: str) -> Image.Image:
    """Return the image in *stream* with its header read and no pixel decoded.

    Raises:
        Rejected: `not_an_image`; `truncated`, if its header is damaged; or `unsupported`, if its
            pixels cannot be read, or not correctly.
    """
    try:
        image = Image.open(stream, formats=FORMATS)
        problem = next(tiff_problems(image), "") if image.format == "TIFF" else ""
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        raise _reject(stream, name) from error
    if image.format == "PNG" and image.mode == "P" and image.palette is None:
        raise Rejected("truncated", f"{name}: a PNG whose palette is missing")
    if problem:
        raise unsupported_tiff(name, problem)
    return image


def _reject(stream: Any, name: str) -> Rejected:
    """Return the reject of a file that Pillow does not open."""
    stream.seek(0)
    start = stream.read(START_BYTES)
    kind = next((kind for kind, mark in UNSUPPORTED_FORMATS if mark.match(start)), None)
    if start.startswith(b"\xff\xd8\xff"):
        marker, height = _jpeg_frame(stream)
        if marker == JPEG_LS:
            kind = "JPEG-LS"
        elif marker and not height:
            problem = "its height is stored after its pixels"
            return Rejected("unsupported", f"{name}: JPEG of an unsupported kind: {problem}")
    if kind:
        message = f"{name}: is {kind}, which is not supported; save it as PNG, JPEG or TIFF"
        return Rejected("unsupported", message)
    for kind in FORMATS:
        plugin, accepts = Image.OPEN[kind]
        if accepts is None or accepts(start) is not True:
            continue
        message = _plugin_message(plugin, stream)
        if UNSUPPORTED.search(message):
            return Rejected("unsupported", f"{name}: {kind} of an unsupported kind: {message}")
        return Rejected(
            "truncated", f"{name}: begins as {kind}, but its header is damaged: {message}"
        )
    return Rejected("not_an_image", f"{name}: is not an image in a supported format")


def _jpeg_frame(stream: Any) -> tuple[int, int]:
    """Return the marker and the height of a JPEG's frame header; 0 and 0 if it has none."""
    stream.seek(2)
    for _ in range(MAX_SEGMENTS):
        segment = stream.read(4)
        if len(segment) < 4 or segment[0] != MARKER:  # noqa: PLR2004
            break
        if segment[1] in FRAME_MARKERS:
            precision_and_height = stream.read(3)
            return segment[1], int.from_bytes(precision_and_height[1:], "big")
        stream.seek(int.from_bytes(segment[2:], "big") - 2, io.SEEK_CUR)
    return 0, 0


def _plugin_message(plugin: Any, stream: Any) -> str:
    """Return the error message of a Pillow *plugin* that cannot open the stream."""
    stream.seek(0)
    try:
        plugin(stream, "")
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        message = str(error) or type(error).__name__
        # A KeyError comes from one of the plugin's tables: of compressions, of pixel formats.
        if isinstance(error.__cause__, KeyError) and not message.startswith("unknown"):
            return f"unknown code {message}"
        return PLUGIN_MESSAGES.get(message, message)
    return "it cannot be opened"


def load_pixels(image: Image.Image, data: bytes) -> Image.Image:
    """Return *image*, which was opened from *data*, decoded and in its stored orientation.

    Raises:
        Rejected: `truncated` or `unsupported`.
    """
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing PySpacer switches it on
    try:
        loaded = _load_as_stored(image)
        if image.format == "PNG":
            check_png(data, loaded)
        elif image.format == "TIFF":
            check_deflate(deflated_parts(image, data))
    except DECODER_ERRORS as error:
        compression = image.info.get("compression")
        if image.format == "TIFF" and compression in OPTIONAL_COMPRESSIONS:
            message = f"TIFF compressed by {compression} cannot be decoded, or is damaged: {error}"
            raise Rejected("unsupported", message) from error
        raise truncated(error) from error
    return loaded


def _load_as_stored(image: Image.Image) -> Image.Image:
    """Decode *image*; if it is a TIFF, undo that Pillow applies its EXIF orientation."""
    undo = UNDO_ORIENTATION.get(orientation(read_exif(image))) if image.format == "TIFF" else None
    image.load()
    return image if undo is None else image.transpose(undo)


def convert(image: Image.Image, mode: str) -> Image.Image:
    """Return *image* converted to *mode*; raise Rejected, `unsupported`, if Pillow cannot do it."""
    try:
        return image.convert(mode)
    except DECODER_ERRORS as error:
        message = f"pixels of mode {image.mode!r} cannot be converted: {error}"
        raise Rejected("unsupported", message) from error
