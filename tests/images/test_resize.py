"""Chips of 10 to 500 pixels in the extractor's square."""

import io

import numpy as np
import pyarrow as pa
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.chip import methods
from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.extract.engine import Engine
from pipeline.images.decode import decode_image
from pipeline.images.resize import border_colour, resize_chip
from pipeline.storage import open_storage

SIDES = st.integers(1, 120)


def extract(resize, pad_extent=64, **more):
    options = {"resize": resize, "pad_extent": pad_extent, **more}
    return ExtractParams(extractor="filters", **options)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(SIDES, SIDES, st.integers(4, 80), st.sampled_from(["stretch", "pad"]), st.integers(1, 150))
def test_a_chip_of_any_size_fills_the_square(height, width, size, resize, pad_extent):
    got = resize_chip(noise(height, width), size, extract(resize, pad_extent))
    assert (got.shape, got.dtype) == ((size, size, 3), np.uint8)


def test_stretch_is_pillows_resizing_of_the_whole_chip():
    chip = noise(30, 90)
    want = Image.fromarray(chip).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.array_equal(resize_chip(chip, 64, extract("stretch")), np.asarray(want))


@given(st.integers(1, 64), st.integers(1, 64))
def test_pad_to_the_size_of_the_square_moves_pixels_and_changes_none(height, width):
    chip = noise(height, width)
    got = resize_chip(chip, 64, extract("pad"))
    top, left = (64 - height) // 2, (64 - width) // 2
    assert np.array_equal(got[top : top + height, left : left + width], chip)
    got = got.copy()
    got[top : top + height, left : left + width] = border_colour(chip)
    assert (got == border_colour(chip)).all()


def disc(side, radius):
    """A dark disc in the middle of a bright square."""
    down, right = np.ogrid[:side, :side]
    middle = (side - 1) / 2
    inside = (down - middle) ** 2 + (right - middle) ** 2 <= radius**2
    return np.repeat(np.where(inside, 20, 220).astype(np.uint8)[:, :, None], 3, axis=2)


def dark(pixels):
    return int((pixels[..., 0] < 120).sum())


def test_pad_keeps_the_relative_size_of_particles_and_stretch_does_not():
    small, large = disc(30, 10), disc(120, 40)
    sizes = {
        resize: [dark(resize_chip(chip, 64, extract(resize, 128))) for chip in (small, large)]
        for resize in ("pad", "stretch")
    }
    assert sizes["pad"][1] / sizes["pad"][0] == pytest.approx(16, rel=0.2)
    assert sizes["stretch"][1] / sizes["stretch"][0] == pytest.approx(1, rel=0.1)


def test_pad_does_not_stretch_a_long_particle():
    chip = np.full((20, 60, 3), 220, np.uint8)
    chip[5:15, 10:50] = 20
    is_dark = resize_chip(chip, 64, extract("pad", 60))[..., 0] < 120
    height, width = is_dark.any(axis=1).sum(), is_dark.any(axis=0).sum()
    assert width / height == pytest.approx(4, rel=0.15)


def test_a_chip_larger_than_pad_extent_is_shrunk_and_not_cut():
    chip = np.full((500, 250, 3), 220, np.uint8)
    chip[[0, -1]] = 20
    got = resize_chip(chip, 64, extract("pad", 100))
    assert got[0, 32, 0] < 220 > got[-1, 32, 0]
    assert (got[:, :16] == border_colour(chip)).all()


def test_the_border_colour_is_the_median_of_the_border_and_not_of_the_particle():
    chip = np.full((20, 20, 3), (10, 200, 90), np.uint8)
    chip[3:17, 3:17] = 0
    chip[0, :5] = 255
    assert border_colour(chip).tolist() == [10, 200, 90]
    assert border_colour(np.array([[[7, 8, 9]]], np.uint8)).tolist() == [7, 8, 9]


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_border_colour_is_numpys_lower_median_of_the_outermost_ring(height, width):
    chip = noise(height, width)
    ring = np.ones((height, width), bool)
    ring[1:-1, 1:-1] = False
    want = np.quantile(chip[ring], 0.5, axis=0, method="lower")
    assert border_colour(chip).tolist() == want.tolist()


def batch_of(folder, pictures, section):
    """Return the first batch that the engine passes to the network."""
    for name, picture in pictures.items():
        picture.save(folder / name)
    bucket = open_storage(str(folder))
    rows = []
    for name, picture in pictures.items():
        version, window = bucket.head(name).version, (0, 0, picture.height, picture.width)
        rows.append((methods.chip_id(name, version, window), name, version, 0, 0, *window))
    columns = zip(*rows, strict=True)
    table = pa.table([list(column) for column in columns], names=schemas.CHIPS.names)
    batches = []

    class Network:
        dim, size, batch = 1, 64, len(rows)

        def __call__(self, pixels):
            batches.append(pixels.copy())
            return np.zeros((len(pixels), 1), np.float32)

    done = Engine(bucket, Network(), section).run([("0", schemas.conform(table, schemas.CHIPS))])
    assert [part.rejects for part in done] == [[]]
    return batches[0]


def test_vignettes_of_10_to_500_pixels_go_into_one_batch(tmp_path):
    sides = [(10, 13), (64, 20), (500, 240), (31, 500)]
    pictures = {
        f"{number}.png": Image.fromarray(noise(*side, seed=number))
        for number, side in enumerate(sides)
    }
    section = extract("pad", 500)
    got = batch_of(tmp_path, pictures, section)
    assert got.shape == (4, 64, 64, 3)
    for number, picture in enumerate(pictures.values()):
        assert np.array_equal(got[number], resize_chip(np.asarray(picture), 64, section))


def test_deep_vignettes_are_scaled_by_the_intensity_range_and_not_by_their_own(tmp_path):
    """Two frames of one scene, one of them darker: the darker one must stay darker."""
    bright = np.linspace(600, 1100, 64 * 64).reshape(64, 64).astype(np.uint16)
    pictures = {
        "bright.png": Image.fromarray(bright),
        "dark.tif": Image.fromarray((bright - 200).astype(np.uint16)),
        "grey.png": Image.fromarray(np.tile(np.arange(100, 164, dtype=np.uint8), (64, 1))),
    }
    got = batch_of(tmp_path, pictures, extract("pad", intensity_range=(400.0, 1100.0)))
    want = [np.rint((values - 400.0) / 700 * 255) for values in (bright, bright - 200)]
    assert np.array_equal(got[0][..., 0], want[0])
    assert np.array_equal(got[1][..., 0], want[1])
    assert np.array_equal(got[2][0, :, 1], np.arange(100, 164))


def test_real_vignettes_are_padded_with_their_own_background():
    path = SHARED / "flowcam" / "copepod_1.tif"
    if not path.exists():
        pytest.skip("needs ../shared/data/flowcam")
    section = extract("pad", 224)
    chip = decode_image(path.read_bytes(), section)
    got = resize_chip(chip, 224, section)
    ground = border_colour(chip).astype(int)
    assert np.array_equal(got[0, 0], border_colour(chip))
    ring = np.concatenate([chip[0], chip[-1], chip[:, 0], chip[:, -1]]).astype(int)
    assert np.abs(np.median(ring, axis=0) - ground).max() <= 1
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert image.size == (chip.shape[1], chip.shape[0])
