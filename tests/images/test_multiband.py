"""TIFFs of deep bands and of many: what GDAL writes of satellites and drones, read to the value."""

from contextlib import suppress

import numpy as np
import pytest
from image_files import header_and_bytes_read

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image
from pipeline.images.valid_mask import valid_mask

rasterio = pytest.importorskip("rasterio")

HEIGHT, WIDTH = 45, 70
LEVELS = (100, 3100)
EXTRACT = ExtractParams(extractor="filters", intensity_range=LEVELS)
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),  # as pipeline.images has it
]


def scene(dtype, bands):
    """Values of any size, with a hole in all bands, one in the first three and one in the last."""
    rng = np.random.default_rng(bands)
    values = rng.integers(1, 250 if dtype == "uint8" else 4000, (bands, HEIGHT, WIDTH))
    values[:, 10:20, 5:33] = 0
    values[:3, 25:30, :40] = 0
    values[-1, 35:40] = 0
    return values.astype(dtype)


def geotiff(values, **options):
    """Write bands [bands, H, W] as GDAL does."""
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
    options = {"driver": "GTiff", "dtype": values.dtype.name, **shape, **options}
    with rasterio.io.MemoryFile() as memory:
        with memory.open(**options) as file:
            file.write(values)
        return bytes(memory.read())


TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}
MAKES = {
    "plain": {},
    "tiles by LZW": {"compress": "lzw", "predictor": 2, **TILED},
    "bands apart": {"compress": "deflate", "interleave": "band"},
    "tiles apart": {"compress": "zstd", "interleave": "band", "predictor": 2, **TILED},
    "a big TIFF by PackBits": {"compress": "packbits", "BIGTIFF": "YES"},
    "the other order": {"ENDIANNESS": "BIG", "compress": "lzw", "predictor": 2},
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize(
    ("dtype", "bands"),
    [("uint8", 2), ("uint8", 4), ("uint8", 7), ("uint16", 3), ("uint16", 4), ("float32", 3)],
)
def test_no_data_and_pixels_of_a_scene_are_those_of_all_of_its_bands(dtype, bands, make):
    values = scene(dtype, bands)
    options = dict(MAKES[make])
    if dtype == "float32" and "predictor" in options:
        options["predictor"] = 3
    data = geotiff(values, photometric="minisblack", **options)
    assert np.array_equal(valid_mask(data, 0), (values != 0).any(axis=0))
    seen = (values[:3] if bands > 2 else values[:1]).transpose(1, 2, 0)
    if dtype != "uint8":
        black, white = LEVELS
        seen = np.rint(np.clip((seen.astype(float) - black) / (white - black), 0, 1) * 255)
    got = decode_image(data, EXTRACT)
    assert got.dtype == np.uint8
    assert np.abs(got - np.broadcast_to(seen, got.shape)).max() <= (dtype != "uint8")


def test_near_infrared_beside_the_colours_is_a_band_and_transparency_is_none():
    values = scene("uint16", 4)
    infrared = geotiff(values, photometric="rgb", alpha="no")
    assert np.array_equal(valid_mask(infrared, 0), (values != 0).any(axis=0))
    assert valid_mask(infrared, "alpha").all()
    transparent = geotiff(values, photometric="rgb", alpha="non-premultiplied")
    assert np.array_equal(valid_mask(transparent, 0), (values[:3] != 0).any(axis=0))
    assert np.array_equal(valid_mask(transparent, "alpha"), values[3] != 0)
    white = decode_image(transparent, ExtractParams(extractor="filters", alpha="white"))
    assert (white[35:40] == 255).all()
    assert (white[25:30, :40][values[3, 25:30, :40] > 3500] < 245).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("alpha", ["drop", "white", "black"])
def test_colours_that_are_stored_as_on_black_are_the_same_colours(dtype, alpha):
    """As Pillow gives them for 8 bits: PySpacer sees them so."""
    most = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    generator = np.random.default_rng(1)
    colours = generator.uniform(0, most, (3, 40, 50))
    share = generator.choice([0.3, 0.6, 1], (40, 50))
    share[:5] = 0
    made = {
        "non-premultiplied": np.concatenate([colours * (share > 0), [share * most]]),
        "premultiplied": np.concatenate([colours * share, [share * most]]),
    }
    levels = (0.0, float(most))
    extract = ExtractParams(extractor="filters", alpha=alpha, intensity_range=levels)
    straight, stored = (
        decode_image(geotiff(values.astype(dtype), photometric="rgb", alpha=kind), extract).astype(
            int
        )
        for kind, values in made.items()
    )
    assert np.abs(straight - stored).max() <= (4 if dtype == "uint8" else 1)
    assert straight.std() > 20


def test_what_is_no_number_is_no_data_in_floats():
    values = scene("float32", 3)
    values[:, :3] = np.nan
    values[0, 3:6] = np.nan
    data = geotiff(values, photometric="rgb")
    shown = ((values != -9999) & ~np.isnan(values)).any(axis=0)
    assert np.array_equal(valid_mask(data, -9999), shown)
    assert not shown[:3].any()
    assert shown[3:6].all()


def test_a_header_names_the_bands_and_limits_their_bytes():
    data = geotiff(scene("uint16", 13), compress="lzw", interleave="band")
    header, _ = header_and_bytes_read(data)
    assert (header["height"], header["width"]) == (HEIGHT, WIDTH)
    assert (header["format"], header["mode"]) == ("TIFF", "13×uint16")
    assert header["orientation"] == 1
    assert header["more_frames"] is False
    with pytest.raises(Rejected) as stop:
        header_and_bytes_read(data, HEIGHT * WIDTH)
    assert stop.value.reason == "too_many_pixels"
    assert "70 × 45 pixels of 26 bytes, over bucket.max_pixels 3,150" in stop.value.detail
    header, _ = header_and_bytes_read(geotiff(scene("uint16", 8)), HEIGHT * WIDTH)
    assert header["mode"] == "8×uint16"


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("make", ["plain", "tiles by LZW"])
def test_a_torn_scene_is_truncated(make, share):
    whole = geotiff(scene("uint16", 4), copy_src_overviews="yes", **MAKES[make])
    data = whole[: int(len(whole) * share)]
    for read in (lambda: valid_mask(data, 0), lambda: decode_image(data, EXTRACT)):
        with pytest.raises(Rejected) as stop:
            read()
        assert stop.value.reason == "truncated"


def test_flipped_bits_of_a_scene_give_values_or_a_reject():
    whole = geotiff(scene("uint16", 4), **MAKES["tiles by LZW"])
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        data[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
        with suppress(Rejected):
            assert valid_mask(bytes(data), 0).dtype == bool


def deep_png():
    """A PNG of 16 bits a colour: what GDAL writes of three bands."""
    shape = {"count": 3, "height": HEIGHT, "width": WIDTH}
    with rasterio.io.MemoryFile() as memory:
        with memory.open(driver="PNG", dtype="uint16", **shape) as file:
            file.write(scene("uint16", 3))
        return bytes(memory.read())


def test_where_bands_or_bits_are_not_given_no_data_is_not_guessed():
    values = scene("uint8", 4)
    infrared = geotiff(values, photometric="rgb", alpha="no", compress="jpeg")
    assert decode_image(infrared, EXTRACT).shape == (HEIGHT, WIDTH, 3)
    for data in (infrared, deep_png()):
        with pytest.raises(Rejected) as stop:
            valid_mask(data, 0)
        assert stop.value.reason == "unsupported"
        assert "no-data cannot be recognised in a" in stop.value.detail
