"""Valid masks: the pixels that are not no-data."""

import io

import numpy as np
import pytest
import tifffile
from image_files import encoded
from PIL import Image

from pipeline.core.errors import Rejected
from pipeline.images.valid_mask import valid_mask

VALUES = np.array([[0, 0, 7], [0, 9, 0]], np.uint8)


@pytest.mark.parametrize(
    ("data", "nodata", "valid"),
    [
        (encoded(Image.fromarray(VALUES)), 0, [[0, 0, 1], [0, 1, 0]]),
        (encoded(Image.fromarray(VALUES)), 9, [[1, 1, 1], [1, 0, 1]]),
        (encoded(Image.fromarray(VALUES)), "alpha", [[1, 1, 1], [1, 1, 1]]),
        # Before any scaling: 255 times as much as its neighbour, and not the same black.
        (encoded(Image.fromarray(VALUES.astype(np.uint16) * 255)), 255 * 7, [[1, 1, 0], [1, 1, 1]]),
        (
            encoded(Image.fromarray(np.array([[np.nan, -9999, 0]], np.float32)), "TIFF"),
            -9999,
            [[0, 0, 1]],
        ),
        # In all bands, whatever the transparency.
        (
            encoded(Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 1, 0]]], np.uint8), "RGBA")),
            0,
            [[0, 1]],
        ),
        (
            encoded(Image.fromarray(np.array([[[5, 5, 5, 1], [5, 5, 5, 0]]], np.uint8), "RGBA")),
            "alpha",
            [[1, 0]],
        ),
        (encoded(Image.fromarray(VALUES), transparency=7), "alpha", [[1, 1, 0], [1, 1, 1]]),
        (encoded(Image.fromarray(VALUES > 0)), 255, [[1, 1, 0], [1, 0, 1]]),
    ],
)
def test_no_data_is_the_given_value_as_stored(data, nodata, valid):
    assert valid_mask(data, nodata).tolist() == np.array(valid, bool).tolist()


def test_the_mask_of_a_rotated_tiff_is_in_stored_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(VALUES), "TIFF", exif=exif)
    assert valid_mask(data, 0).tolist() == (VALUES != 0).tolist()


def test_a_truncated_image_has_no_mask():
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)))
    with pytest.raises(Rejected) as stop:
        valid_mask(data[:-900], 0)
    assert stop.value.reason == "truncated"


def test_transparency_of_premultiplied_grey_is_read():
    """Pillow opens such a TIFF with a mode that it converts to nothing."""
    values = np.array([[[9, 255], [4, 128], [0, 0]]], np.uint8)
    file = io.BytesIO()
    options = {"photometric": "minisblack", "extrasamples": ["assocalpha"], "metadata": None}
    tifffile.imwrite(file, values, planarconfig="contig", **options)
    assert valid_mask(file.getvalue(), "alpha").tolist() == [[True, True, False]]
    assert valid_mask(file.getvalue(), 4).tolist() == [[True, False, True]]
