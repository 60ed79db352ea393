"""TIFFs of deep bands and of many: what GDAL writes of satellites and drones, read to the value."""

import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from conftest import environment
from geotiffs import HEIGHT, LAYOUTS, WIDTH, geotiff, scene
from image_files import RGB, encoded, header_and_bytes_read
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected, TransientError
from pipeline.images.decode import decode_image
from pipeline.images.header import read_header
from pipeline.images.ranged_file import BLOCK_BYTES
from pipeline.images.valid_mask import valid_mask
from pipeline.storage import Object

rasterio = pytest.importorskip("rasterio")

INTENSITY_RANGE = (100, 3100)
EXTRACT = ExtractParams(extractor="filters", intensity_range=INTENSITY_RANGE)
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),  # as images/opening.py has it
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("dtype", "bands"),
    [("uint8", 2), ("uint8", 4), ("uint8", 7), ("uint16", 3), ("uint16", 4), ("float32", 3)],
)
def test_pixels_and_mask_of_a_scene_come_from_all_its_bands(dtype, bands, layout):
    values = scene(dtype, bands)
    options = dict(LAYOUTS[layout])
    if dtype == "float32" and "predictor" in options:
        options["predictor"] = 3
    data = geotiff(values, photometric="minisblack", **options)
    assert np.array_equal(valid_mask(data, 0), (values != 0).any(axis=0))
    want = (values[:3] if bands > 2 else values[:1]).transpose(1, 2, 0)
    if dtype != "uint8":
        black, white = INTENSITY_RANGE
        want = np.rint(np.clip((want.astype(float) - black) / (white - black), 0, 1) * 255)
    got = decode_image(data, EXTRACT)
    assert got.dtype == np.uint8
    assert np.abs(got - np.broadcast_to(want, got.shape)).max() <= (dtype != "uint8")


def test_near_infrared_counts_as_a_band_for_no_data_and_transparency_does_not():
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
def test_premultiplied_colours_are_the_same_colours(dtype, alpha):
    """As in Pillow's conversion of 8 bits, and so in PySpacer."""
    most = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    generator = np.random.default_rng(1)
    colours = generator.uniform(0, most, (3, 40, 50))
    share = generator.choice([0.3, 0.6, 1], (40, 50))
    share[:5] = 0
    files = {
        "non-premultiplied": np.concatenate([colours * (share > 0), [share * most]]),
        "premultiplied": np.concatenate([colours * share, [share * most]]),
    }
    levels = (0.0, float(most))
    extract = ExtractParams(extractor="filters", alpha=alpha, intensity_range=levels)
    straight, stored = (
        decode_image(geotiff(values.astype(dtype), photometric="rgb", alpha=kind), extract).astype(
            int
        )
        for kind, values in files.items()
    )
    assert np.abs(straight - stored).max() <= (4 if dtype == "uint8" else 1)
    assert straight.std() > 20


def test_nan_is_no_data():
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


@pytest.mark.parametrize("share", [0.3, 0.9, 0.995, 0.9999])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_torn_scene_is_truncated(layout, share):
    """Even by a byte or two: none of its pixels are guessed."""
    whole = geotiff(scene("uint16", 4), copy_src_overviews="yes", **LAYOUTS[layout])
    data = whole[: int(len(whole) * share)]
    for read in (lambda: valid_mask(data, 0), lambda: decode_image(data, EXTRACT)):
        with pytest.raises(Rejected) as stop:
            read()
        assert stop.value.reason == "truncated"


def test_damaged_deflate_data_is_never_decoded():
    whole = geotiff(scene("uint16", 4), compress="deflate")
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        data[int(rng.integers(600, len(data)))] ^= 1 << int(rng.integers(0, 8))
        with pytest.raises(Rejected, match="the image's data end early or are damaged"):
            decode_image(bytes(data), EXTRACT)


@pytest.mark.parametrize("compression", [{}, {"compress": "lzw"}])
def test_a_scene_with_tiles_that_were_never_written_is_unsupported(compression):
    options = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": 64, "width": 64}
    options |= {"tiled": True, "blockxsize": 32, "blockysize": 32, "SPARSE_OK": True}
    with rasterio.io.MemoryFile() as memory:
        with memory.open(**options, **compression) as file:
            corner = rasterio.windows.Window(0, 0, 32, 32)
            file.write(np.ones((4, 32, 32), np.uint16), window=corner)
        data = bytes(memory.read())
    for read in (header_and_bytes_read, lambda data: decode_image(data, EXTRACT)):
        with pytest.raises(Rejected, match="a TIFF with strips or tiles that were never") as stop:
            read(data)
        assert stop.value.reason == "unsupported"


def directory_of(data):
    """The position and the length of the directory of a little-endian TIFF."""
    start = int.from_bytes(data[4:8], "little")
    return start, 2 + 12 * int.from_bytes(data[start : start + 2], "little") + 4


def test_more_extra_samples_than_bands_are_rejected():
    data = bytearray(geotiff(scene("uint16", 13)))
    start, length = directory_of(data)
    at = data.index((277).to_bytes(2, "little") + b"\3\0\1\0\0\0", start, start + length)
    data[at + 8] = 5  # bands, of which the directory says that twelve are extra samples
    for read in (valid_mask, lambda data, _: decode_image(data, EXTRACT)):
        with pytest.raises(Rejected) as stop:
            read(bytes(data), "alpha")
        assert stop.value.reason in {"unsupported", "truncated"}


def test_a_large_scenes_header_takes_a_small_part_of_its_bytes():
    noise = np.random.default_rng(0).integers(0, 4000, (4, 800, 1000)).astype(np.uint16)
    data = geotiff(noise, compress="lzw")
    header, bytes_read = header_and_bytes_read(data)
    assert (header["height"], header["width"], header["mode"]) == (800, 1000, "4×uint16")
    assert len(data) > 4_000_000
    assert bytes_read <= 200_000


class FailingStorage:
    """A storage of one object, of which only the first block can be read."""

    def __init__(self, data):
        self.data = data

    def read(self, key, *, start, stop, if_version):
        if start >= BLOCK_BYTES:
            raise TransientError("the bucket is busy")
        return self.data[start:stop]


def test_a_storage_error_midway_is_not_turned_into_a_reject():
    noise = np.random.default_rng(0).integers(0, 4000, (4, 100, 200)).astype(np.uint16)
    data = geotiff(noise)
    start, length = directory_of(data)
    moved = data[:4] + len(data).to_bytes(4, "little") + data[8:] + data[start : start + length]
    header, _ = header_and_bytes_read(moved)
    assert header["mode"] == "4×uint16"
    with pytest.raises(TransientError, match="the bucket is busy"):
        read_header(FailingStorage(moved), Object("a.tif", len(moved), "v"), max_pixels=10**9)


def test_tifffile_is_imported_for_tiffs_only():
    code = (
        "import sys\n"
        "from pipeline.config.sections import ExtractParams\n"
        "from pipeline.images.decode import decode_image\n"
        "decode_image(sys.stdin.buffer.read(), ExtractParams(extractor='filters'))\n"
        "print('tifffile' in sys.modules)"
    )
    for kind, imported in (("JPEG", "False"), ("TIFF", "True")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=encoded(Image.fromarray(RGB), kind),
            env=environment(),
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode().strip() == imported


def test_flipped_bits_of_a_scene_give_values_or_a_reject():
    whole = geotiff(scene("uint16", 4), **LAYOUTS["LZW tiles"])
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


def test_no_data_is_not_guessed_where_pillow_drops_bands_or_bits():
    values = scene("uint8", 4)
    infrared = geotiff(values, photometric="rgb", alpha="no", compress="jpeg")
    assert decode_image(infrared, EXTRACT).shape == (HEIGHT, WIDTH, 3)
    for data in (infrared, deep_png()):
        with pytest.raises(Rejected) as stop:
            valid_mask(data, 0)
        assert stop.value.reason == "unsupported"
        assert "no-data cannot be recognised in a" in stop.value.detail
