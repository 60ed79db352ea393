"""Decode an image to 8-bit RGB, whatever its format, depth and bands."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decoder_errors import damage_rejected, truncated
from pipeline.images.multiband import alpha_band, is_premultiplied, open_multiband, read_bands
from pipeline.images.opening import convert, load_pixels, open_image
from pipeline.images.windows import Pixels

if TYPE_CHECKING:
    from tifffile import TiffPage

JPEG_FORMATS = {"JPEG", "MPO"}
"""MPO, which some cameras write, is several JPEGs in one file; the first is the picture."""

DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
GREY_MODES = {"L", "LA", "La"}
"""Of 8 bits."""

EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV"}
"""Those that are converted to RGB. Not LAB: decoders differ in what its white is."""

MISSING_DATA = ("premature end of data segment", "premature end of jpeg file")
"""Warnings of libjpeg, of which it states the first."""


class DecodedImage(NamedTuple):
    """Pixels, uint8 [H, W, 3], and what their decoder warned of, which may have harmed them."""

    pixels: Pixels
    warning: str | None


def decode_image(data: bytes, extract: ExtractParams) -> Pixels:
    """Return the pixels of `decode_with_warning`; raise as it does."""
    return decode_with_warning(data, extract).pixels


def decode_with_warning(data: bytes, extract: ExtractParams) -> DecodedImage:
    """Decode the first frame of an image.

    Of three bands or more the first three are red, green and blue; of two the first is grey.

    Args:
        data: the whole file.
        extract: `intensity_range` maps values deeper than 8 bits to 0–255, `grey_intensity_range`
            grey ones of 8 bits; `alpha` is what lies under transparency.

    Returns:
        RGB, in the stored orientation. Only JPEGs have warnings.

    Raises:
        Rejected: `not_an_image`, `truncated` or `unsupported`.
    """
    with damage_rejected():
        page = open_multiband(io.BytesIO(data), "the image")
        if page is not None:
            return DecodedImage(_rgb_of_page(page, extract), None)
        image, warning = open_image(io.BytesIO(data), "the image"), None
        if image.format in JPEG_FORMATS:
            # Of CMYK this only finds out whether the data are complete; Pillow converts it.
            colours = "CMYK" if image.mode == "CMYK" else "RGB"
            pixels, warning = _decode_jpeg(data, colours)
            if pixels is not None and image.mode in {"RGB", "L"}:
                return DecodedImage(_stretch_grey(pixels, image.mode, extract), None)
        return DecodedImage(_rgb_of_image(load_pixels(image, data), extract), warning)


def _decode_jpeg(data: bytes, colours: str) -> tuple[Pixels | None, str | None]:
    """Decode a JPEG by libjpeg, without the copy that Pillow's pixels take.

    Without pixels, Pillow must decode it. It does so whatever libjpeg warns of, which is returned.
    But it fills in grey for missing data, without an error, so those are a reject. So is a missing
    end: zeros, as at the end of an unfinished copy, decode to grey, and libjpeg warns of no more.

    Raises:
        Rejected: `truncated`.
    """
    try:
        return simplejpeg.decode_jpeg(data, colours, strict=True), None
    except ValueError as error:
        if any(warning in str(error).lower() for warning in MISSING_DATA):
            raise truncated(error) from error
        return None, str(error)


def _rgb_of_image(image: Image.Image, extract: ExtractParams) -> Pixels:
    if image.mode in DEEP_MODES:
        grey = _scale(np.asarray(image), extract.intensity_range)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode not in EIGHT_BIT_MODES:
        raise Rejected("unsupported", f"pixels of mode {image.mode!r} are not supported")
    mode = image.mode
    if extract.alpha != "drop" and image.has_transparency_data:
        ground = Image.new("RGBA", image.size, extract.alpha)
        image = Image.alpha_composite(ground, convert(image, "RGBA"))
    pixels = np.asarray(image if image.mode == "RGB" else convert(image, "RGB"))
    return _stretch_grey(pixels, mode, extract)


def _rgb_of_page(page: TiffPage, extract: ExtractParams) -> Pixels:
    values, alpha = read_bands(page), alpha_band(page)
    bands = [band for band in range(values.shape[2]) if band != alpha]
    colours = values[..., bands[:3] if len(bands) >= 3 else bands[:1]]  # noqa: PLR2004 - RGB
    if is_premultiplied(page):
        _divide_by_opacity(colours, values[..., alpha])
    if values.dtype.itemsize > 1:
        picture = _scale(colours, extract.intensity_range)
    elif colours.shape[2] == 1 and extract.grey_intensity_range is not None:
        picture = _scale(colours, extract.grey_intensity_range)
    else:
        picture = colours
    if extract.alpha != "drop" and alpha is not None:
        opacity = values[..., alpha, None].astype(np.float32) / _opaque(values.dtype)
        opacity = np.clip(opacity, 0, 1)
        ground = 255 if extract.alpha == "white" else 0
        picture = np.rint(picture * opacity + ground * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _divide_by_opacity(colours: NDArray[Any], alpha: NDArray[Any]) -> None:
    """Undo, in place, that *colours* [H, W, bands] are stored multiplied by *alpha* [H, W].

    Fully transparent pixels stay as they are stored, as in Pillow's conversion of 8 bits.
    """
    most = _opaque(colours.dtype)
    alpha = alpha.astype(np.float64)
    partial = (alpha > 0) & (alpha < most)
    straight = np.clip(colours[partial] * (most / alpha[partial])[:, None], 0, most)
    colours[partial] = straight if colours.dtype.kind == "f" else np.rint(straight)


def _opaque(dtype: np.dtype[Any]) -> float:
    """Return the value of a transparency band that hides what is below."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _stretch_grey(pixels: Pixels, mode: str, extract: ExtractParams) -> Pixels:
    """Map `extract.grey_intensity_range` to 0–255, if the image is stored as 8-bit grey."""
    if extract.grey_intensity_range is None or mode not in GREY_MODES:
        return pixels
    table = _scale(np.arange(256), extract.grey_intensity_range)
    stretched: Pixels = table[pixels]
    return stretched


def _scale(values: NDArray[Any], intensity_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Map *intensity_range* to 0–255, and clip; Pillow's conversion clips 16 bits to white."""
    black, white = intensity_range
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped
        share = (values.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    scaled: NDArray[np.uint8]
    scaled = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * 255).astype(np.uint8)
    return scaled
