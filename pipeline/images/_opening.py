"""Opening images: which formats, and, of what is not opened, why it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from pipeline.errors import Rejected
from pipeline.images._faults import DAMAGED, pass_storage_errors

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "PPM", "AVIF")
"""What is decoded at all. Others guess without a signature (TGA, PCX), or start a program on the
bucket's bytes (EPS: Ghostscript), if that is there."""

START_BYTES = 32
FOREIGN = (
    ("HEIC", re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.DOTALL)),
    ("JPEG-LS", re.compile(rb"\xff\xd8\xff\xf7")),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("JPEG XR", re.compile(rb"II\xbc")),
    ("big-endian BigTIFF", re.compile(rb"MM\0\x2b")),
    ("Photoshop", re.compile(rb"8BPS")),
)
"""Image formats that cameras and programs write, often under another's name, and that Pillow
cannot read; first bytes by name."""

CANNOT = re.compile(r"cannot handle|unknown|unsupported|not (yet )?supported", re.IGNORECASE)
"""What Pillow's plugins say of a sound file that they have no decoder for."""

PHOTOMETRIC, COMPRESSION, BITS, SAMPLE_FORMAT = 262, 259, 258, 339
TILE_WIDTH, TILE_LENGTH = 322, 323
SAMPLES, PLANAR, SUBSAMPLING = 277, 284, 530
PREDICTOR, PACKBITS = 317, 32773
WHITE_IS_ZERO = 0
SIGNED = 2
SEPARATE = 2
BYTE, LONG = 8, 32

LARGE_TILE = 2**22
"""Pixels of a tile that is let through however small its image is."""


def opened(stream: Any, name: str) -> Image.Image:
    """Read the header of the image in *stream*; no pixel is decoded.

    Raises:
        Rejected: `not_an_image`; `truncated`, if it begins as one and its header is damaged; or
            `unsupported`, if its pixels cannot be had, or not rightly.
    """
    try:
        image = Image.open(stream, formats=FORMATS)
        fault = next(_misread(image), "") if image.format == "TIFF" else ""
    except DAMAGED as error:
        pass_storage_errors(error)
        raise _why(stream, name) from error
    if fault:
        raise Rejected("unsupported", f"{name}: a TIFF with {fault}, which is not read here")
    return image


def _why(stream: Any, name: str) -> Rejected:
    """Give the reject of what Pillow does not open: by its first bytes, and by what it says."""
    stream.seek(0)
    start = stream.read(START_BYTES)
    for kind, mark in FOREIGN:
        if mark.match(start):
            sentence = f"{name}: is {kind}, which is not read here; save it as PNG, JPEG or TIFF"
            return Rejected("unsupported", sentence)
    for kind in FORMATS:
        plugin, accepts = Image.OPEN[kind]
        if accepts is None or accepts(start) is not True:
            continue
        said = _said(plugin, stream)
        if CANNOT.search(said):
            return Rejected("unsupported", f"{name}: {kind} of a kind not read here: {said}")
        return Rejected("truncated", f"{name}: begins as {kind}; its header is damaged: {said}")
    return Rejected("not_an_image", f"{name}: no decoder knows it as an image")


def _said(plugin: Any, stream: Any) -> str:
    """Give what the *plugin* says of the stream that it could not open."""
    stream.seek(0)
    try:
        plugin(stream, "")
    except DAMAGED as error:
        pass_storage_errors(error)
        # A KeyError is one of the plugin's own tables: of compressions, of pixel formats.
        said = str(error) or type(error).__name__
        return f"unknown code {said}" if isinstance(error.__cause__, KeyError) else said
    return "it cannot be opened"


def _misread(image: Any) -> Iterator[str]:
    """Name what makes Pillow 13.0 misread this TIFF without a word, or make it larger than it is.

    Found by comparing 6,072 TIFFs that tifffile wrote with what is read of them
    (`tests/test_images_tiff.py`).
    """
    tags, bands = image.tag_v2, image.tag_v2.get(SAMPLES, 1)
    bits: Sequence[int] = tags.get(BITS, (1,))
    sample_format: Sequence[int] = tags.get(SAMPLE_FORMAT, (1,))
    is_deep = max(bits) > BYTE
    by_libtiff = bool(image.tile) and image.tile[0][0] == "libtiff"
    width, height = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
    if width * height > max(LARGE_TILE, 4 * image.width * image.height):
        yield f"tiles of {width:,} × {height:,} pixels"  # which would be made in memory
    if tags.get(COMPRESSION) == PACKBITS and tags.get(PREDICTOR, 1) != 1:
        yield "differences packed by PackBits"  # which are taken for values
    if SIGNED in sample_format and max(bits) <= BYTE:
        yield "signed values of 8 bits"  # taken for unsigned
    if image.mode == "I" and max(bits) == LONG and 1 in sample_format:
        yield "unsigned values of 32 bits"  # taken for signed
    if by_libtiff and image.mode in {"I", "F"} and tags.prefix == b"MM":
        yield f"compressed big-endian values of mode {image.mode}"  # bytes in the wrong order
    if is_deep and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        yield f"values of {max(bits)} bits of which 0 is white"  # not inverted
    if bands > 1 and tags.get(PLANAR) == SEPARATE and not _reads_planes(image, is_deep, by_libtiff):
        yield f"bands of {max(bits)} bits, mode {image.mode}, each on a plane of its own"
    if image.mode == "YCbCr" and not by_libtiff and tuple(tags.get(SUBSAMPLING, (2, 2))) != (1, 1):
        yield "uncompressed YCbCr with fewer colours than pixels"  # taken for full


def _reads_planes(image: Any, is_deep: bool, by_libtiff: bool) -> bool:  # noqa: FBT001
    return image.mode in {"RGB", "RGBA", "CMYK"} and (by_libtiff or not is_deep)
