"""Images that lack rows but do not look cut off."""

import numpy as np
import pytest
from image_files import EXTRACT, RGB, encoded, png_of_rows
from PIL import Image

from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image
from pipeline.images.valid_mask import valid_mask


def cut_and_closed(mode):
    """A JPEG whose second half is missing, but not its end marker."""
    image = Image.fromarray(np.tile(RGB, (3, 3, 1))).convert(mode)
    data = encoded(image, "JPEG")
    return data[: len(data) // 2] + b"\xff\xd9"


@pytest.mark.parametrize(
    "data",
    [png_of_rows(RGB[:39]), png_of_rows(RGB[:7]), *map(cut_and_closed, ("RGB", "L", "CMYK"))],
)
def test_missing_rows_are_never_black_or_grey(data):
    with pytest.raises(Rejected, match="the image's data end early") as stop:
        decode_image(data, EXTRACT)
    assert stop.value.reason == "truncated"


def test_missing_rows_are_not_taken_for_no_data():
    with pytest.raises(Rejected, match="some of its rows are missing") as stop:
        valid_mask(png_of_rows(RGB[:39]), 0)
    assert stop.value.reason == "truncated"


def test_a_black_last_row_is_not_a_missing_row():
    black = np.concatenate([RGB[:30], np.zeros((10, 60, 3), np.uint8)])
    for kind in ("PNG", "JPEG"):
        assert decode_image(encoded(Image.fromarray(black), kind), EXTRACT).shape == (RGB.shape)
    assert np.array_equal(decode_image(png_of_rows(black), EXTRACT), black)
