"""Opening: what is not an image, or cannot be read correctly, is rejected with its reason."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from image_files import EXTRACT, RGB, encoded, header_and_bytes_read, png_of_rows
from PIL import Image

from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image

# What the package says about Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x1f\x8b\x08\0" + bytes(40),
        b"\0" * 4000,
    ],
)
def test_a_file_that_is_not_an_image_is_rejected(data):
    with pytest.raises(Rejected) as stop:
        header_and_bytes_read(data)
    assert stop.value.reason == "not_an_image"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF89a"])
def test_a_file_that_ends_after_its_signature_is_truncated(data):
    with pytest.raises(Rejected, match="its header is damaged") as stop:
        header_and_bytes_read(data)
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x02\0\x02\x01\x01\x11\0", "is JPEG-LS"),
        (b"\xff\x0a\0\0", "is JPEG XL"),
        (b"8BPS\0\x01", "is Photoshop"),
    ],
)
def test_an_unsupported_format_is_named(data, message):
    with pytest.raises(
        Rejected, match=f"image: {message}, which is not supported; save it as"
    ) as stop:
        header_and_bytes_read(data)
    assert stop.value.reason == "unsupported"


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX", "ICO"])
def test_formats_that_guess_or_run_programs_are_not_images(kind):
    """Pillow gives EPS to Ghostscript, whatever the file is called."""
    data = encoded(Image.fromarray(RGB), kind)
    for read in (header_and_bytes_read, lambda data: decode_image(data, EXTRACT)):
        with pytest.raises(Rejected, match="is not an image in a supported format") as stop:
            read(data)
        assert stop.value.reason == "not_an_image"


def test_decoding_in_threads_leaves_the_processs_warnings_as_they_were():
    """`warnings.catch_warnings` in two threads at once would leave all of them switched off."""
    data = encoded(Image.fromarray(RGB), "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: decode_image(data, EXTRACT), range(400)):
            pass
    assert warnings.filters == before


def test_a_png_without_its_palette_is_truncated():
    with pytest.raises(Rejected) as stop:
        header_and_bytes_read(png_of_rows(RGB[..., 0], colour=3))
    assert stop.value.args == ("truncated", "image: a PNG whose palette is missing")


def with_thumbnail():
    small, large = Image.fromarray(RGB[:9, :9]), Image.fromarray(RGB)
    return encoded(small, "TIFF", tiffinfo={254: 1}, save_all=True, append_images=[large])


def sparse():
    """A TIFF whose only strip was never written."""
    data = encoded(Image.fromarray(RGB), "TIFF")
    with Image.open(io.BytesIO(data)) as image:
        (offset,) = image.tag_v2[273]
    at = data.index((273).to_bytes(2, "little") + b"\4\0\1\0\0\0" + offset.to_bytes(4, "little"))
    return data[: at + 8] + bytes(4) + data[at + 12 :]


JPEG = encoded(Image.fromarray(RGB), "JPEG")
HEIGHT_AT = JPEG.index(b"\xff\xc0") + 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_thumbnail(), "a TIFF with a thumbnail before its picture, which is not supp"),
        (sparse(), "a TIFF with strips or tiles that were never written, which is not supported"),
        (encoded(Image.new("LAB", (9, 9)), "TIFF"), "a TIFF with LAB colours, which is not"),
        (
            b"\xff\xd8\xff\xe8\0\4ab\xff\xf7\0\x0b\x08\0\2\0\2\1\1\x11\0",
            "is JPEG-LS, which is not supported; save it as PNG, JPEG or TIFF",
        ),
        (
            JPEG[:HEIGHT_AT] + b"\0\0" + JPEG[HEIGHT_AT + 2 :],
            "JPEG of an unsupported kind: its height is stored after its pixels",
        ),
    ],
)
def test_a_file_that_would_be_misread_is_rejected_with_the_problem(data, message):
    with pytest.raises(Rejected, match=message) as stop:
        header_and_bytes_read(data)
    assert stop.value.reason == "unsupported"
