"""Damaged files through the function that the extract stage decodes with."""

import io
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import EXTRACT, RGB, encoded, png_of_rows
from PIL import Image

from pipeline.core.errors import Rejected
from pipeline.images.sandbox import decoding
from pipeline.images.valid_mask import valid_mask

COARSE = (
    np.random.default_rng(3).integers(0, 256, (45, 30, 3), np.uint8).repeat(20, 0).repeat(20, 1)
)
NOISE = np.random.default_rng(4).normal(0, 12, COARSE.shape)
PHOTOGRAPH = Image.fromarray(np.clip(COARSE * 0.5 + 60 + NOISE, 0, 255).astype(np.uint8))
BLACK_AT_THE_END = np.concatenate([RGB[:30], np.zeros((10, 60, 3), np.uint8)])


def multiband():
    """Return a deflated TIFF of four deep bands, which tifffile reads."""
    sink = io.BytesIO()
    bands = np.concatenate([RGB, RGB[..., :1]], axis=2).astype(np.uint16) * 257
    options = {"photometric": "rgb", "extrasamples": [0], "compression": "zlib"}
    tifffile.imwrite(sink, bands, **options)
    return sink.getvalue()


SMALL = Image.fromarray(RGB)
FILES = {
    "PNG": encoded(SMALL),
    "PNG, black at the end": encoded(Image.fromarray(BLACK_AT_THE_END)),
    "PNG of 1 bit": encoded(Image.fromarray(BLACK_AT_THE_END).convert("1")),
    "PNG with a palette": encoded(SMALL.convert("P")),
    "JPEG": encoded(SMALL, "JPEG"),
    "progressive JPEG": encoded(SMALL, "JPEG", progressive=True),
    "CMYK JPEG": encoded(SMALL.convert("CMYK"), "JPEG"),
    "TIFF": encoded(SMALL, "TIFF"),
    "deflated TIFF": encoded(SMALL, "TIFF", compression="tiff_adobe_deflate"),
    "LZW TIFF": encoded(SMALL, "TIFF", compression="tiff_lzw"),
    "multiband TIFF": multiband(),
    **{kind: encoded(SMALL, kind) for kind in ("WEBP", "GIF", "BMP", "JPEG2000", "PPM", "AVIF")},
}


def decode(data):
    """Decode as the extract stage does."""
    with decoding(EXTRACT, isolate=False) as decode:
        return decode(data, "a").pixels


def damaged(data, faults):
    """Return *data* with faults, each a place as a share of the file, a kind and a number."""
    result = bytearray(data)
    for share, kind, number in faults:
        at = int(share * (len(result) - 1))
        stop = min(at + number, len(result))
        if kind == "flip":
            result[at] ^= 1 << number % 8
        elif kind == "zeros":
            result[at:stop] = bytes(stop - at)
        elif kind == "ones":
            result[at:stop] = b"\xff" * (stop - at)
        elif kind == "delete" and stop - at < len(result):
            del result[at:stop]
    return bytes(result)


def black_png_with_a_wrong_checksum():
    """Return a PNG with a black last row whose stream ends with a wrong Adler checksum."""
    data = png_of_rows(BLACK_AT_THE_END)
    start = data.index(b"IDAT")
    end = data.index(b"IEND") - 8
    chunk = bytearray(data[start:end])
    chunk[-1] ^= 1
    return data[:start] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[end + 4 :]


FAULTS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["flip", "zeros", "ones", "delete"]),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.filterwarnings("ignore:::PIL")  # as pipeline.images.opening sets it
@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(sorted(FILES)), faults=FAULTS)
@example(kind="PNG of 1 bit", faults=[(0.5, "zeros", 40)])
def test_a_damaged_file_gives_pixels_or_a_reject_and_no_error(kind, faults):
    data = damaged(FILES[kind], faults)
    for read in (decode, lambda data: valid_mask(data, 0), lambda data: valid_mask(data, "alpha")):
        try:
            assert read(data).shape[0] > 0
        except Rejected as why:
            assert why.reason in {"truncated", "not_an_image", "unsupported"}  # noqa: PT017


@pytest.mark.parametrize("read", [decode, lambda data: valid_mask(data, 0)])
def test_a_png_whose_stream_has_a_wrong_checksum_is_a_reject(read):
    with pytest.raises(Rejected, match="damaged") as stop:
        read(black_png_with_a_wrong_checksum())
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("quality", [75, 90, 95, 100])
def test_a_jpeg_that_ends_in_zeros_is_a_reject(quality, share, options):
    """As an interrupted copy leaves it: at quality 90 and above, zeros fill the image with grey."""
    data = encoded(PHOTOGRAPH, "JPEG", quality=quality, **options)
    kept = int(share * len(data))
    with pytest.raises(Rejected) as stop:
        decode(data[:kept] + bytes(len(data) - kept))
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize("tail", [2, 20, 200])
@pytest.mark.parametrize(
    "kind", ["PNG", "PNG of 1 bit", "PNG with a palette", "deflated TIFF", "multiband TIFF"]
)
def test_what_a_checksum_shows_is_a_reject(kind, tail):
    """The pixels' end is zeros; of a TIFF that tifffile or Pillow wrote, the tags follow it."""
    data = FILES[kind]
    if kind == "multiband TIFF":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            end = page.dataoffsets[-1] + page.databytecounts[-1]
    elif "TIFF" in kind:
        tags = Image.open(io.BytesIO(data)).tag_v2
        end = tags[273][-1] + tags[279][-1]
    else:
        end = data.rindex(b"IEND") - 8
    with pytest.raises(Rejected) as stop:
        decode(data[: end - tail] + bytes(tail) + data[end:])
    assert stop.value.reason == "truncated"
