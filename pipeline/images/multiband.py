"""TIFFs of deep bands, or of more bands than a picture has, read by tifffile.

Satellites, drones and microscopes produce them; Pillow rejects them or keeps 8 bits of them. The
bands are those of the stored pixels: nothing is scaled, rotated or dropped.

Source of the numbers: TIFF 6.0, and Adobe's TIFF Technical Note 3 on the floating-point predictor.
"""

from __future__ import annotations

import logging
import math
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.decoder_errors import (
    DECODER_ERRORS,
    HEADER_ERRORS,
    reraise_storage_error,
    truncated,
)
from pipeline.images.tiff_checks import layout_problems, unsupported_tiff

if TYPE_CHECKING:
    from tifffile import TiffPage

SIGNATURES = {b"II*\0", b"MM\0*", b"II+\0"}
"""Of TIFFs, and of BigTIFFs in little-endian order."""

COMPRESSIONS = {1, 5, 8, 32946, 32773, 34925, 50000}
"""Lossless ones of any bytes: none, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard."""

PACKBITS = 32773
GREY, RGB = 1, 2
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
CONTIGUOUS, SEPARATE = 1, 2
NO_PREDICTOR, HORIZONTAL, FLOATING_POINT = 1, 2, 3
PREMULTIPLIED = 1
ALPHAS = {PREMULTIPLIED, 2}
BYTE = 8
DEEP = {16, 32, 64}

# tifffile logs every oddity of a damaged file; the reject says what is wrong, once.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def open_multiband(stream: Any, name: str) -> TiffPage | None:
    """Return the first page of a multiband TIFF with its tags read, and no pixel decoded.

    None: it is not a multiband TIFF, or of a kind that Pillow reads or rejects with a reason.

    Raises:
        Rejected: `unsupported`.
    """
    stream.seek(0)
    if stream.read(4) not in SIGNATURES:
        return None
    from tifffile import TiffFile  # takes 50 ms, and most buckets hold no TIFF

    stream.seek(0)
    try:
        # Of these three formats it would read more pages than the first.
        file = TiffFile(stream, is_lsm=False, is_ndpi=False, is_scanimage=False)
        page = file.pages.first
        if not _is_multiband(page) or len(page.dataoffsets) != math.prod(page.chunked):
            return None
        tile = (page.tilewidth, page.tilelength) if page.is_tiled else (0, 0)
        offsets = (*page.dataoffsets, *page.databytecounts)
        problem = next(layout_problems(offsets, tile, (page.imagewidth, page.imagelength)), None)
    except HEADER_ERRORS as error:
        reraise_storage_error(error)
        return None
    if problem:
        raise unsupported_tiff(name, problem)
    return page


def _is_multiband(page: TiffPage) -> bool:
    """Return True if the page has deep or extra bands, stored in a way that is read here."""
    predictors = {NO_PREDICTOR, FLOATING_POINT if page.sampleformat == FLOAT else HORIZONTAL}
    is_supported = (
        # A damaged tag may hold 0 or a fraction.
        all(isinstance(length, int) and length > 0 for length in page.shape)
        and page.imagedepth == 1
        and page.photometric in {GREY, RGB}
        and page.sampleformat in {UNSIGNED, SIGNED, FLOAT}
        and page.planarconfig in {CONTIGUOUS, SEPARATE}
        and page.fillorder == 1
        and page.compression in COMPRESSIONS
        and page.predictor in predictors
        and (page.predictor == NO_PREDICTOR or page.compression != PACKBITS)
    )
    n_bands, extra = page.samplesperpixel, page.extrasamples
    if not is_supported or n_bands < 2 or len(extra) > n_bands:  # noqa: PLR2004
        return False
    if page.bitspersample in DEEP:
        return page.dtype is not None
    n_more = n_bands - (3 if page.photometric == RGB else 1)
    only_alpha = n_more == 1 and alpha_band(page) is not None
    is_bytes = page.bitspersample == BYTE and page.sampleformat == UNSIGNED
    return is_bytes and n_more != 0 and not only_alpha


def page_exif(page: TiffPage) -> Image.Exif:
    """Return the page's tags as Pillow holds them."""
    exif, stream = Image.Exif(), cast("IO[bytes]", page.parent.filehandle)
    exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
    exif.load_from_fp(stream, page.offset)
    return exif


def alpha_band(page: TiffPage) -> int | None:
    """Return the index of the first transparency band, if there is one."""
    alphas = (place for place, kind in enumerate(page.extrasamples) if kind in ALPHAS)
    first = next(alphas, None)
    return None if first is None else page.samplesperpixel - len(page.extrasamples) + first


def is_premultiplied(page: TiffPage) -> bool:
    """Return True if the colours are stored multiplied by their opacity: as they are on black."""
    alpha = alpha_band(page)
    return alpha is not None and page.extrasamples[alpha - page.samplesperpixel] == PREMULTIPLIED


def read_bands(page: TiffPage) -> NDArray[Any]:
    """Return the values of all bands: [H, W, bands], in this machine's byte order.

    Raises:
        Rejected: `truncated`.
    """
    try:
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > page.parent.filehandle.size:  # LZW without its last byte may be decoded
            raise EOFError("a strip or tile ends beyond the file")
        values = page.asarray(maxworkers=1)  # images are decoded in threads already
    except DECODER_ERRORS as error:
        raise truncated(error) from error
    if page.planarconfig == SEPARATE:
        values = np.moveaxis(values, 0, 2)
    return values.astype(values.dtype.newbyteorder("="), copy=False)
