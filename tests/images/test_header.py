"""Headers: size, format, orientation and more, from a small part of an image's bytes."""

import io

import numpy as np
import pytest
from image_files import EXTRACT, RGB, RNG, encoded, exif_of, header_and_bytes_read
from PIL import Image, ImageFile, TiffImagePlugin

from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.images.decode import decode_image
from pipeline.images.header import read_header
from pipeline.images.ranged_file import BLOCK_BYTES
from pipeline.storage import Object, open_storage

# What the package says about Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_header_is_what_pillow_reads_from_the_whole_image(kind):
    data = encoded(Image.fromarray(RGB), kind)
    header, _ = header_and_bytes_read(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (header["width"], header["height"]) == image.size == (60, 40)
        assert (header["format"], header["mode"]) == (kind, image.mode)
    assert header["orientation"] == 1
    assert header["captured_at"] is header["latitude"] is None
    assert header["size"] == len(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_large_images_header_takes_a_small_part_of_its_bytes(kind):
    noise = Image.fromarray(RNG.integers(0, 256, (1500, 2000, 3), dtype=np.uint8))
    data = encoded(noise, kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert len(data) > 3_000_000
    header, bytes_read = header_and_bytes_read(data)
    assert (header["height"], header["width"]) == (1500, 2000)
    assert bytes_read <= 200_000


def test_a_tiff_whose_directory_is_at_its_end_is_read_in_parts():
    sink = io.BytesIO()
    noise = Image.fromarray(RNG.integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    noise.save(sink, "TIFF")
    data = bytearray(sink.getvalue())
    with Image.open(io.BytesIO(bytes(data))) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
    start = int.from_bytes(data[4:8], "little")
    directory_length = 2 + 12 * int.from_bytes(data[start : start + 2], "little") + 4
    moved = bytes(data) + bytes(data[start : start + directory_length])
    moved = moved[:4] + len(data).to_bytes(4, "little") + moved[8:]
    header, bytes_read = header_and_bytes_read(moved)
    assert header["width"] == 1200
    assert bytes_read <= 200_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_reading_a_header_decodes_no_pixels(kind, monkeypatch):
    data = encoded(Image.fromarray(RGB), kind)

    def load(self):
        raise AssertionError("pixels were decoded")

    for plugin in {ImageFile.ImageFile, *type(Image.open(io.BytesIO(data))).__mro__[:2]}:
        monkeypatch.setattr(plugin, "load", load)
    assert header_and_bytes_read(data)[0]["width"] == 60


def test_a_format_that_must_be_read_whole_is_read_in_one_request_after_the_first(tmp_path):
    noise = Image.fromarray(RNG.integers(0, 256, (400, 800, 3), dtype=np.uint8))
    data = encoded(noise, "WEBP", lossless=True)
    assert len(data) > 10 * BLOCK_BYTES
    (tmp_path / "image").write_bytes(data)
    storage = open_storage(str(tmp_path))
    item = storage.head("image")
    requests = []
    read = storage.read
    storage.read = lambda key, **part: requests.append(part) or read(key, **part)
    read_header(storage, item, max_pixels=10**9)
    assert len(requests) == 2
    assert {part["if_version"] for part in requests} == {item.version}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "JPEG"])
def test_orientation_is_read_from_every_format_that_has_it(kind):
    header, _ = header_and_bytes_read(encoded(Image.fromarray(RGB), kind, exif=exif_of(t274=6)))
    assert (header["orientation"], header["width"], header["height"]) == (6, 60, 40)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "AVIF"])
def test_more_frames_is_true_if_another_picture_follows(kind):
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    one = encoded(colours[0], "JPEG" if kind == "MPO" else kind)
    two = encoded(colours[0], kind, save_all=True, append_images=colours[1:])
    assert [header_and_bytes_read(data)[0]["more_frames"] for data in (one, two)] == [False, True]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_damaged_second_picture_does_not_affect_the_first(share):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = encoded(frames[0], "GIF")
    cut = data[: int(len(first) + share * (len(data) - len(first)))]
    assert header_and_bytes_read(cut)[0]["more_frames"] in {True, False}
    assert decode_image(cut, EXTRACT).shape == RGB.shape


def test_too_many_pixels_are_rejected_by_the_header_alone():
    data = encoded(Image.new("1", (3000, 3000)))
    with pytest.raises(Rejected) as stop:
        header_and_bytes_read(data, 8_999_999)
    assert stop.value.reason == "too_many_pixels"
    assert stop.value.detail == ("image: 3,000 × 3,000 pixels, over bucket.max_pixels 8,999,999")
    header, _ = header_and_bytes_read(data, 9_000_000)
    assert header["width"] == 3000


@pytest.mark.parametrize("fault", [Changed, Missing, StorageError])
def test_a_storage_error_is_not_turned_into_a_reject(tmp_path, fault):
    """A reject would be kept; the bucket may work again in a minute."""
    data = encoded(Image.fromarray(RNG.integers(0, 256, (400, 600, 3), dtype=np.uint8)), "TIFF")
    (tmp_path / "image").write_bytes(data)
    storage = open_storage(str(tmp_path))

    def failing(key, **part):
        raise fault("the bucket's message")

    storage.read = failing
    with pytest.raises(fault, match="the bucket's message"):
        read_header(storage, Object("image", len(data), "v"), max_pixels=10**9)
