"""Windows: PySpacer's geometry to the pixel, reflected at the border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.windows import around, crop


def pixels(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pyspacer(image, row, col, size):
    """PySpacer 0.14's crop_patches, its own arithmetic: pad everything, then cut."""
    padded = np.pad(image, ((size, size), (size, size), (0, 0)), mode="reflect")
    upper, left = int(row + size - size / 2), int(col + size - size / 2)
    return padded[upper : upper + size, left : left + size]


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.randoms(use_true_random=False)
)
def test_a_window_around_a_point_holds_pyspacers_pixels(height, width, size, random):
    image = pixels(height, width)
    row, col = random.randrange(height), random.randrange(width)
    got = crop(image, around(row, col, size))
    assert np.array_equal(got, pyspacer(image, row, col, size))


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.tuples(*[st.integers(-90, 90)] * 2),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_every_pixel_of_a_crop_is_the_reflected_source(height, width, corner, high, wide):
    image = pixels(height, width)
    got = crop(image, (*corner, high, wide))
    far = 200
    padded = np.pad(image, ((far, far), (far, far), (0, 0)), mode="reflect")
    top, left = corner[0] + far, corner[1] + far
    assert np.array_equal(got, padded[top : top + high, left : left + wide])


def test_the_point_is_at_112_112_of_a_224_window():
    image = pixels(500, 600)
    assert np.array_equal(crop(image, around(300, 400, 224))[112, 112], image[300, 400])


def test_a_window_inside_the_image_is_not_copied():
    image = pixels(50, 50)
    assert crop(image, (10, 10, 20, 20)).base is not None


@pytest.mark.parametrize("size", [1, 2, 3, 223, 224, 225])
def test_odd_and_even_sizes_are_placed_as_pyspacer_places_them(size):
    image = pixels(300, 300)
    assert np.array_equal(crop(image, around(150, 151, size)), pyspacer(image, 150, 151, size))
