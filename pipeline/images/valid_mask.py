"""Find the pixels of an image that show something, as opposed to no-data."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.sections import NoData
from pipeline.core.errors import Rejected
from pipeline.images.decode import DEEP_MODES
from pipeline.images.decoder_errors import damage_rejected
from pipeline.images.multiband import alpha_band, open_multiband, read_bands
from pipeline.images.opening import convert, load_pixels, open_image


def valid_mask(data: bytes, nodata: NoData) -> NDArray[np.bool_]:
    """Return which pixels of the first frame of an image are valid: bool [H, W].

    Args:
        data: the whole file.
        nodata: a value: pixels that have it in every band, as stored, are not valid, nor those
            that are NaN in every band (transparency does not count as a band, and a palette's
            values are its indices). Or "alpha": fully transparent pixels are not valid.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    with damage_rejected():
        page = open_multiband(io.BytesIO(data), "the image")
        if page is not None:
            return _mask(read_bands(page), alpha_band(page), nodata)
        image = open_image(io.BytesIO(data), "the image")
        _check_complete(image)
        loaded = load_pixels(image, data)
        if nodata == "alpha" and loaded.has_transparency_data and loaded.mode[-1] not in "Aa":
            loaded = convert(loaded, "RGBA")
        values = np.asarray(loaded.convert("L") if loaded.mode == "1" else loaded)
        values = values.reshape(*values.shape[:2], -1)
        not_a_colour = loaded.mode[-1] in ("Aa" if nodata == "alpha" else "AaX")
        return _mask(values, values.shape[2] - 1 if not_a_colour else None, nodata)


def _mask(values: NDArray[Any], alpha: int | None, nodata: NoData) -> NDArray[np.bool_]:
    """Return which pixels of *values* [H, W, bands] are valid; *alpha* is the transparency band."""
    if nodata == "alpha":
        if alpha is None:
            return np.ones(values.shape[:2], bool)
        opaque: NDArray[np.bool_] = values[..., alpha] != 0
        return opaque
    valid: NDArray[np.bool_] = np.zeros(values.shape[:2], bool)
    for number, band in enumerate(np.moveaxis(values, 2, 0)):  # all at once takes thrice as long
        if number != alpha:
            differs = band != nodata
            valid |= differs & ~np.isnan(band) if band.dtype.kind == "f" else differs
    return valid


def _check_complete(image: Image.Image) -> None:
    """Raise Rejected if Pillow drops bands of *image*, or bits: no-data could not be recognised."""
    args = next((str(part[3]) for part in image.tile), "")  # type: ignore[attr-defined]
    drops_bits = ";16" in args and image.mode not in DEEP_MODES
    if drops_bits or (image.format == "TIFF" and image.mode in {"RGB", "L"} and "X" in args):
        raise Rejected(
            "unsupported",
            f"no-data cannot be recognised in a {image.format} with 16 bits per colour or with "
            "extra bands; save it as TIFF without JPEG compression",
        )
