"""EXIF: times and coordinates, and what is done with invalid ones."""

from datetime import datetime

import pytest
from image_files import RGB, encoded, exif_of, header_and_bytes_read
from PIL import Image

# What the package says about Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


def test_a_fraction_of_a_second_is_kept():
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({36867: "2008:04:15 13:14:15", 37521: "25"})
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert header["captured_at"] == datetime(2008, 4, 15, 13, 14, 15, 250_000)


@pytest.mark.parametrize("original", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday"])
def test_without_a_valid_original_time_the_files_time_is_used(original):
    exif = exif_of(t306="2010:01:02 03:04:05")
    exif.get_ifd(0x8769)[36867] = original
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert header["captured_at"] == datetime(2010, 1, 2, 3, 4, 5)


def test_southern_and_western_coordinates_are_negative():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2008:04:15 13:14:15"
    exif.get_ifd(0x8825).update({1: "S", 2: (17.0, 30.0, 36.0), 3: "W", 4: (149.0, 45.0, 0.0)})
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert header["captured_at"] == datetime(2008, 4, 15, 13, 14, 15)
    assert header["latitude"] == pytest.approx(-(17 + 30 / 60 + 36 / 3600))
    assert header["longitude"] == pytest.approx(-149.75)


@pytest.mark.parametrize(
    "gps", [{1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, {1: "N"}]
)
def test_impossible_coordinates_are_none(gps):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(gps)
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert header["latitude"] is header["longitude"] is None


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_corrupt_exif_does_not_reject_an_image(exif):
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), "JPEG", exif=exif))
    assert header["orientation"] == 1
