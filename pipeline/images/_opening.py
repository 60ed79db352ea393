"""Opening images: which formats, and, of what is not opened, why it is not."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from pipeline.core.errors import Rejected
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

SAID_PLAINLY = {
    "not identified by this driver": "it does not say what its pixels are",
    "string index out of range": "unknown order of bands",
}
"""What the plugins say of it, for people."""

MARKER, JPEG_LS = 0xFF, 0xF7
FRAMES = {JPEG_LS, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MOST_SEGMENTS = 1_000

PHOTOMETRIC, COMPRESSION, BITS, SAMPLE_FORMAT = 262, 259, 258, 339
TILE_WIDTH, TILE_LENGTH = 322, 323
SAMPLES, PLANAR, SUBSAMPLING = 277, 284, 530
KIND, SUB_DIRECTORIES = 254, 330
STRIP_PLACES, TILE_PLACES = 273, 324
REDUCED = 1
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
        fault = next(_unfit(image), "") if image.format == "TIFF" else ""
    except DAMAGED as error:
        pass_storage_errors(error)
        raise _why(stream, name) from error
    if image.format == "PNG" and image.mode == "P" and image.palette is None:
        raise Rejected("truncated", f"{name}: a PNG whose palette is missing")
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
    if start.startswith(b"\xff\xd8\xff"):
        marker, height = _frame(stream)
        if marker == JPEG_LS:
            sentence = f"{name}: is JPEG-LS, which is not read here; save it as PNG, JPEG or TIFF"
            return Rejected("unsupported", sentence)
        if marker and not height:
            what = "its height stands behind its pixels"
            return Rejected("unsupported", f"{name}: JPEG of a kind not read here: {what}")
    for kind in FORMATS:
        plugin, accepts = Image.OPEN[kind]
        if accepts is None or accepts(start) is not True:
            continue
        said = _said(plugin, stream)
        if CANNOT.search(said):
            return Rejected("unsupported", f"{name}: {kind} of a kind not read here: {said}")
        return Rejected("truncated", f"{name}: begins as {kind}; its header is damaged: {said}")
    return Rejected("not_an_image", f"{name}: no decoder knows it as an image")


def _frame(stream: Any) -> tuple[int, int]:
    """Give the marker and the height of a JPEG's frame; 0 and 0 where it has none."""
    stream.seek(2)
    for _ in range(MOST_SEGMENTS):
        start = stream.read(4)
        if len(start) < 4 or start[0] != MARKER:  # noqa: PLR2004
            break
        if start[1] in FRAMES:
            said = stream.read(3)
            return start[1], int.from_bytes(said[1:], "big")
        stream.seek(int.from_bytes(start[2:], "big") - 2, io.SEEK_CUR)
    return 0, 0


def _said(plugin: Any, stream: Any) -> str:
    """Give what the *plugin* says of the stream that it could not open."""
    stream.seek(0)
    try:
        plugin(stream, "")
    except DAMAGED as error:
        pass_storage_errors(error)
        # A KeyError is one of the plugin's own tables: of compressions, of pixel formats.
        said = str(error) or type(error).__name__
        if isinstance(error.__cause__, KeyError) and not said.startswith("unknown"):
            return f"unknown code {said}"
        return SAID_PLAINLY.get(said, said)
    return "it cannot be opened"


def _unfit(image: Any) -> Iterator[str]:
    """Name what makes this TIFF another picture than its own, or larger than it is."""
    tags = image.tag_v2
    if tags.get(KIND, 0) & REDUCED and (tags.next or SUB_DIRECTORIES in tags):
        yield "a smaller copy before its picture"  # which is taken for it, as of raw photographs
    if 0 in (*tags.get(STRIP_PLACES, ()), *tags.get(TILE_PLACES, ())):
        yield "parts that were never written"  # its first bytes are taken for them
    width, height = tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)
    if width * height > max(LARGE_TILE, 4 * image.width * image.height):
        yield f"tiles of {width:,} × {height:,} pixels"  # which would be made in memory
    yield from _misread(image)


def _misread(image: Any) -> Iterator[str]:
    """Name what makes Pillow 13.0 misread the values of this TIFF without a word.

    Found by comparing 6,072 TIFFs that tifffile wrote with what is read of them
    (`tests/images/test_images_tiff.py`).
    """
    tags, bands = image.tag_v2, image.tag_v2.get(SAMPLES, 1)
    bits: Sequence[int] = tags.get(BITS, (1,))
    sample_format: Sequence[int] = tags.get(SAMPLE_FORMAT, (1,))
    is_deep = max(bits) > BYTE
    by_libtiff = bool(image.tile) and image.tile[0][0] == "libtiff"
    if tags.get(COMPRESSION) == PACKBITS and tags.get(PREDICTOR, 1) != 1:
        yield "differences packed by PackBits"  # which are taken for values
    if image.mode == "LAB":
        yield "colours of LAB"  # of whose white each decoder has its own idea
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
