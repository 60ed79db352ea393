"""Pictures of chips: framed in their surroundings, and small enough for a page."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.validate.report.pictures import picture

NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def whole(pixels, count):
    return picture(pixels, (0, 0, *pixels.shape[:2]), count)


def decoded(webp):
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))


@pytest.mark.parametrize(("of", "size"), [(60, (320, 160)), (61, (176, 88))])
def test_a_thumbnail_keeps_its_shape(of, size):
    wide = np.zeros((400, 800, 3), dtype=np.uint8)
    assert Image.open(io.BytesIO(whole(wide, of))).size == size


@pytest.mark.parametrize(
    ("window", "shown", "frame"),
    [
        ((30, 25, 20, 10), (20, 20, 40, 20), (10, 5, 20, 10)),
        ((-4, 60, 20, 20), (0, 50, 26, 30), (0, 10, 16, 20)),
    ],
)
def test_a_chip_is_framed_within_what_surrounds_it(window, shown, frame):
    """A frame lies outside the chip, whose own pixels stay; no picture goes past its image."""
    image = np.random.default_rng(2).integers(60, 200, (60, 80, 3), dtype=np.uint8)
    top, left, height, width = shown
    found = decoded(picture(image, window, 1))
    assert found.shape[:2] == (height, width)
    around = image[top : top + height, left : left + width]
    row, col, rows, cols = frame
    inside = np.s_[row : row + rows, col : col + cols]
    assert np.array_equal(found[inside], around[inside])
    assert (found[row + rows, col : col + cols] == 255).all()
    assert (found[row + rows + 2, col : col + cols] == 0).all()
    far = np.ones(around.shape[:2], bool)
    far[max(0, row - 3) : row + rows + 3, max(0, col - 3) : col + cols + 3] = False
    assert np.array_equal(found[far], around[far])


def test_a_chip_that_is_its_whole_image_has_no_frame():
    image = NOISE[:40, :60]
    assert np.array_equal(decoded(picture(image, (0, 0, 40, 60), 1)), image)


def test_a_large_chips_frame_shrinks_with_its_picture():
    image = np.full((1000, 1000, 3), 128, np.uint8)
    found = decoded(picture(image, (300, 300, 400, 400), 1))
    assert found.shape == (320, 320, 3)
    white = np.flatnonzero(found[160, :, 0] > 220)
    assert np.abs(white - np.array([78, 79, 240, 241])).max() <= 1


def test_a_small_chip_is_shown_pixel_by_pixel():
    small = NOISE[:20, :30]
    assert np.array_equal(decoded(whole(small, 1)), small)
