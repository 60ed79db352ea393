"""Chips as image files: their EXIF is read back by other programs."""

import io
import json
import shutil
import subprocess
from datetime import datetime

import exifread
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.encode import EXTENSIONS, ExifFields, encode_chip

ID = bytes(range(16))
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
ANGLE = 0.5 / 3600 / 10_000 + 1e-9
"""Rounding error in degrees: half a ten-thousandth of a second."""


def degrees(tags, name):
    """A GPS coordinate as ExifRead reads it: hemisphere and parts."""
    parts = [part.num / part.den for part in tags[f"GPS GPS{name}"].values]
    assert all(part >= 0 for part in parts)
    assert parts[1] < 60 > parts[2]
    sign = {"N": 1, "E": 1, "S": -1, "W": -1}[tags[f"GPS GPS{name}Ref"].values]
    return sign * (parts[0] + parts[1] / 60 + parts[2] / 3600)


def tags_of(kind, fields):
    return exifread.process_file(io.BytesIO(encode_chip(PIXELS, kind, fields)), details=False)


@pytest.mark.parametrize("kind", sorted(EXTENSIONS))
@pytest.mark.parametrize(
    ("latitude", "longitude", "hemispheres"),
    [(54.0143, -2.777, "NW"), (-33.86, 151.21, "SE"), (-0.00001, -0.00001, "SW"), (0, 0, "NE")],
)
def test_coordinates_are_in_the_right_hemisphere(kind, latitude, longitude, hemispheres):
    tags = tags_of(kind, ExifFields(ID, latitude, longitude))
    got = tags["GPS GPSLatitudeRef"].values + tags["GPS GPSLongitudeRef"].values
    assert got == hemispheres
    assert degrees(tags, "Latitude") == pytest.approx(latitude, abs=ANGLE)
    assert degrees(tags, "Longitude") == pytest.approx(longitude, abs=ANGLE)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_any_coordinates_are_read_back_to_a_few_millimetres(latitude, longitude):
    tags = tags_of("jpeg", ExifFields(ID, latitude, longitude))
    assert degrees(tags, "Latitude") == pytest.approx(latitude, abs=ANGLE)
    assert degrees(tags, "Longitude") == pytest.approx(longitude, abs=ANGLE)


@pytest.mark.parametrize("kind", sorted(EXTENSIONS))
def test_a_time_has_exifs_format_with_its_fraction_in_another_tag(kind):
    tags = tags_of(kind, ExifFields(ID, captured_at=datetime(2023, 5, 4, 7, 8, 9, 62500)))
    assert tags["EXIF DateTimeOriginal"].values == "2023:05:04 07:08:09"
    assert tags["EXIF SubSecTimeOriginal"].values == "0625"
    whole = tags_of(kind, ExifFields(ID, captured_at=datetime(812, 1, 2)))
    assert whole["EXIF DateTimeOriginal"].values == "0812:01:02 00:00:00"
    assert "EXIF SubSecTimeOriginal" not in whole


@pytest.mark.parametrize("kind", sorted(EXTENSIONS))
def test_unknown_fields_are_left_out_and_the_chip_is_always_named(kind):
    tags = tags_of(kind, ExifFields(ID))
    assert tags["EXIF ImageUniqueID"].values == ID.hex()
    assert not any(name.startswith("GPS") or "DateTime" in name for name in tags)
    alone = tags_of(kind, ExifFields(ID, latitude=3.0))
    assert not any(name.startswith("GPS") for name in alone)


def test_a_png_has_exactly_the_pixels_and_a_jpeg_nearly():
    window = np.zeros((60, 60, 3), np.uint8)[5:35, 5:46]  # a view, as crop gives it
    window[:] = PIXELS
    for kind in EXTENSIONS:
        data = encode_chip(window, kind, ExifFields(ID))
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == kind.upper()
            got = np.asarray(image).astype(int)
        assert np.abs(got - PIXELS).mean() <= {"png": 0, "jpeg": 8}[kind]
        assert encode_chip(window, kind, ExifFields(ID)) == data


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="needs exiftool")
def test_exiftool_reads_the_same(tmp_path):
    at = datetime(2023, 5, 22, 12, 46, 35, 875000)
    for kind, ending in EXTENSIONS.items():
        (tmp_path / f"a.{ending}").write_bytes(
            encode_chip(PIXELS, kind, ExifFields(ID, -54.5, 2.25, at))
        )
    command = ["exiftool", "-j", "-n", "-all", "-warning", *sorted(tmp_path.iterdir())]
    for tags in json.loads(subprocess.run(command, capture_output=True, check=True).stdout):
        assert (tags["GPSLatitude"], tags["GPSLongitude"]) == (-54.5, 2.25)
        assert tags["SubSecDateTimeOriginal"] == "2023:05:22 12:46:35.875"
        assert tags["ImageUniqueID"] == ID.hex()
        assert "Warning" not in tags
