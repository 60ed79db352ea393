"""Images: headers without pixels, right pixels or a reject, never something in between."""

import io
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from pipeline import images
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.storage import Object, open_storage

# What images.py says of Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

EXTRACT = ExtractParams(extractor="filters")
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.fixture
def head(tmp_path):
    """Read the header of some bytes, counting what is read of them."""

    def read(data, max_pixels=10**9):
        (tmp_path / "image").write_bytes(data)
        storage = open_storage(str(tmp_path))
        item = storage.versioned([Object("image", len(data))])[0]
        counted = []
        real = storage.read

        def counting(key, **part):
            found = real(key, **part)
            counted.append(len(found))
            return found

        storage.read = counting
        return images.header(storage, item, max_pixels=max_pixels), sum(counted)

    return read


def exif_of(**tags):
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[int(tag[1:])] = value
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_header_says_what_pillow_says_of_the_whole_image(head, kind):
    data = encoded(Image.fromarray(RGB), kind)
    found, _ = head(data)
    with Image.open(io.BytesIO(data)) as image:
        assert (found["width"], found["height"]) == image.size == (60, 40)
        assert (found["format"], found["mode"]) == (kind, image.mode)
    assert found["orientation"] == 1
    assert found["captured_at"] is found["latitude"] is None
    assert found["size"] == len(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_large_images_header_costs_a_small_part_of_it(head, kind):
    noise = Image.fromarray(RNG.integers(0, 256, (1500, 2000, 3), dtype=np.uint8))
    data = encoded(noise, kind, **({"quality": 95} if kind == "JPEG" else {}))
    assert len(data) > 3_000_000
    found, read = head(data)
    assert (found["height"], found["width"]) == (1500, 2000)
    assert read <= 200_000


def test_a_tiff_whose_directory_stands_at_the_end_is_read_in_parts(head):
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
    found, read = head(moved)
    assert found["width"] == 1200
    assert read <= 200_000


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_recorded_and_never_applied(head, orientation):
    data = encoded(
        Image.fromarray(RGB), "JPEG", exif=exif_of(t274=orientation).tobytes(), quality=95
    )
    found, _ = head(data)
    assert (found["orientation"], found["width"], found["height"]) == (orientation, 60, 40)
    assert images.decode(data, extract=EXTRACT).shape == (40, 60, 3)


SIDES = [(side, packing) for side in range(1, 9) for packing in ("raw", "tiff_lzw")]


@pytest.mark.parametrize(("orientation", "packing"), [*SIDES, (99, "raw")])
def test_a_tiff_is_not_turned_either(head, orientation, packing):
    """Pillow turns a TIFF while it loads it, and swaps its sides before."""
    data = encoded(Image.fromarray(RGB), "TIFF", tiffinfo={274: orientation}, compression=packing)
    found, _ = head(data)
    assert (found["width"], found["height"]) == (60, 40)
    assert found["orientation"] == (orientation if orientation < 9 else 1)
    assert np.array_equal(images.decode(data, extract=EXTRACT), RGB)


def test_a_deep_tiff_is_not_turned_either():
    values = RNG.integers(0, 65536, (40, 60), dtype=np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={274: 6})
    want = np.rint(values / 65535 * 255).astype(np.uint8)
    assert np.array_equal(images.decode(data, extract=EXTRACT)[..., 0], want)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF", "JPEG"])
def test_orientation_is_found_in_every_format_that_has_it(head, kind):
    found, _ = head(encoded(Image.fromarray(RGB), kind, exif=exif_of(t274=6)))
    assert (found["orientation"], found["width"], found["height"]) == (6, 60, 40)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000"])
def test_no_header_decodes_pixels(head, kind, monkeypatch):
    data = encoded(Image.fromarray(RGB), kind)

    def loaded(self):
        raise AssertionError("pixels were decoded")

    for plugin in {ImageFile.ImageFile, *type(Image.open(io.BytesIO(data))).__mro__[:2]}:
        monkeypatch.setattr(plugin, "load", loaded)
    assert head(data)[0]["width"] == 60


def test_a_format_that_must_be_read_whole_is_read_in_one_request_after_the_first(tmp_path):
    noise = Image.fromarray(RNG.integers(0, 256, (400, 800, 3), dtype=np.uint8))
    data = encoded(noise, "WEBP", lossless=True)
    assert len(data) > 10 * images.BLOCK_BYTES
    (tmp_path / "image").write_bytes(data)
    storage = open_storage(str(tmp_path))
    item = storage.head("image")
    asked = []
    real = storage.read
    storage.read = lambda key, **part: asked.append(part) or real(key, **part)
    images.header(storage, item, max_pixels=10**9)
    assert len(asked) == 2
    assert {part["if_version"] for part in asked} == {item.version}


@pytest.mark.parametrize("fault", [Changed, Missing, StorageError])
def test_a_buckets_fault_is_not_the_images(head, tmp_path, fault):
    """A reject would be kept for ever; the bucket may be back in a minute."""
    data = encoded(Image.fromarray(RNG.integers(0, 256, (400, 600, 3), dtype=np.uint8)), "TIFF")
    (tmp_path / "image").write_bytes(data)
    storage = open_storage(str(tmp_path))

    def failing(key, **part):
        raise fault("the bucket's sentence")

    storage.read = failing
    with pytest.raises(fault, match="the bucket's sentence"):
        images.header(storage, Object("image", len(data), "v"), max_pixels=10**9)


def test_a_fraction_of_a_second_is_kept(head):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({36867: "2008:04:15 13:14:15", 37521: "25"})
    found, _ = head(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert found["captured_at"] == datetime(2008, 4, 15, 13, 14, 15, 250_000)


@pytest.mark.parametrize("original", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday"])
def test_a_camera_that_does_not_know_its_time_leaves_the_files(head, original):
    exif = exif_of(t306="2010:01:02 03:04:05")
    exif.get_ifd(0x8769)[36867] = original
    found, _ = head(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert found["captured_at"] == datetime(2010, 1, 2, 3, 4, 5)


def test_time_and_place_have_their_signs(head):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2008:04:15 13:14:15"
    exif.get_ifd(0x8825).update({1: "S", 2: (17.0, 30.0, 36.0), 3: "W", 4: (149.0, 45.0, 0.0)})
    found, _ = head(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert found["captured_at"] == datetime(2008, 4, 15, 13, 14, 15)
    assert found["latitude"] == pytest.approx(-(17 + 30 / 60 + 36 / 3600))
    assert found["longitude"] == pytest.approx(-149.75)


@pytest.mark.parametrize(
    "gps", [{1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, {1: "N"}]
)
def test_a_place_that_cannot_be_is_none(head, gps):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update(gps)
    found, _ = head(encoded(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))
    assert found["latitude"] is found["longitude"] is None


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_corrupt_exif_is_no_reject(head, exif):
    found, _ = head(encoded(Image.fromarray(RGB), "JPEG", exif=exif))
    assert found["orientation"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html></html>",
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x1f\x8b\x08\0" + bytes(40),
        b"\0" * 4000,
    ],
)
def test_what_is_no_image_is_rejected(head, data):
    with pytest.raises(Rejected) as stop:
        head(data)
    assert stop.value.reason == "not_an_image"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF89a"])
def test_what_begins_as_an_image_and_ends_at_once_is_truncated(head, data):
    with pytest.raises(Rejected, match="its header is damaged") as stop:
        head(data)
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x02\0\x02\x01\x01\x11\0", "is JPEG-LS"),
        (b"\xff\x0a\0\0", "is JPEG XL"),
        (b"8BPS\0\x01", "is Photoshop"),
    ],
)
def test_a_kind_that_cannot_be_read_is_named(head, data, said):
    with pytest.raises(
        Rejected, match=f"image: {said}, which is not read here; save it as"
    ) as stop:
        head(data)
    assert stop.value.reason == "unsupported"


@pytest.mark.parametrize("kind", ["EPS", "TGA", "PCX", "ICO"])
def test_formats_that_guess_or_start_programs_are_no_images_here(head, kind):
    """Pillow gives EPS to Ghostscript, whatever the file is called."""
    data = encoded(Image.fromarray(RGB), kind)
    for read in (head, lambda data: images.decode(data, extract=EXTRACT)):
        with pytest.raises(Rejected, match="no decoder knows it as an image") as stop:
            read(data)
        assert stop.value.reason == "not_an_image"


def test_decoding_in_threads_leaves_the_processs_warnings_as_they_were():
    """`warnings.catch_warnings` in two threads at once would leave all of them switched off."""
    data = encoded(Image.fromarray(RGB), "JPEG")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: images.decode(data, extract=EXTRACT), range(400)):
            pass
    assert warnings.filters == before


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_of_many_frames_the_first_is_taken(kind):
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    data = encoded(colours[0], kind, save_all=True, append_images=colours[1:])
    red, _, blue = images.decode(data, extract=EXTRACT)[4, 4].tolist()
    assert red > 190
    assert blue < 10


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO", "AVIF"])
def test_a_header_says_whether_other_pictures_follow(head, kind):
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    one = encoded(colours[0], "JPEG" if kind == "MPO" else kind)
    two = encoded(colours[0], kind, save_all=True, append_images=colours[1:])
    assert [head(data)[0]["more_frames"] for data in (one, two)] == [False, True]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_second_picture_that_is_damaged_is_no_fault_of_the_first(head, share):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = encoded(frames[0], "GIF")
    cut = data[: int(len(first) + share * (len(data) - len(first)))]
    assert head(cut)[0]["more_frames"] in {True, False}
    assert images.decode(cut, extract=EXTRACT).shape == RGB.shape


def chunks(*parts):
    """Write a PNG of *parts*: kinds and what they hold."""
    made = (
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in (*parts, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def png_rows(rows, colour=2, height=40):
    """A PNG of 60 × *height* that holds *rows*, in one whole stream."""
    head = (60).to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour, 0, 0, 0])
    held = b"".join(b"\0" + row.tobytes() for row in rows)
    return chunks((b"IHDR", head), (b"IDAT", zlib.compress(held)))


def cut_and_closed(mode):
    """A JPEG whose second half is missing, and that ends as one does."""
    image = Image.fromarray(np.tile(RGB, (3, 3, 1))).convert(mode)
    data = encoded(image, "JPEG")
    return data[: len(data) // 2] + b"\xff\xd9"


@pytest.mark.parametrize(
    "data",
    [png_rows(RGB[:39]), png_rows(RGB[:7]), *map(cut_and_closed, ("RGB", "L", "CMYK"))],
)
def test_an_image_that_lacks_rows_and_does_not_look_cut_is_never_half_black_or_grey(data):
    with pytest.raises(Rejected, match="the image's data end early") as stop:
        images.decode(data, extract=EXTRACT)
    assert stop.value.reason == "truncated"


def test_a_last_row_of_black_is_a_row():
    black = np.concatenate([RGB[:30], np.zeros((10, 60, 3), np.uint8)])
    for kind in ("PNG", "JPEG"):
        assert images.decode(encoded(Image.fromarray(black), kind), extract=EXTRACT).shape == (
            RGB.shape
        )
    assert np.array_equal(images.decode(png_rows(black), extract=EXTRACT), black)


def test_a_png_whose_palette_is_missing_has_no_pixels(head):
    with pytest.raises(Rejected) as stop:
        head(png_rows(RGB[..., 0], colour=3))
    assert stop.value.args == ("truncated", "image: a PNG whose palette is missing")


def with_thumbnail():
    small, large = Image.fromarray(RGB[:9, :9]), Image.fromarray(RGB)
    return encoded(small, "TIFF", tiffinfo={254: 1}, save_all=True, append_images=[large])


def sparse():
    """A TIFF whose only strip was never written."""
    data = encoded(Image.fromarray(RGB), "TIFF")
    with Image.open(io.BytesIO(data)) as image:
        (place,) = image.tag_v2[273]
    at = data.index((273).to_bytes(2, "little") + b"\4\0\1\0\0\0" + place.to_bytes(4, "little"))
    return data[: at + 8] + bytes(4) + data[at + 12 :]


JPEG_OF = encoded(Image.fromarray(RGB), "JPEG")
HEIGHT_AT = JPEG_OF.index(b"\xff\xc0") + 5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (with_thumbnail(), "a TIFF with a smaller copy before its picture, which is not read"),
        (sparse(), "a TIFF with parts that were never written, which is not read here"),
        (encoded(Image.new("LAB", (9, 9)), "TIFF"), "a TIFF with colours of LAB, which is not"),
        (
            b"\xff\xd8\xff\xe8\0\4ab\xff\xf7\0\x0b\x08\0\2\0\2\1\1\x11\0",
            "is JPEG-LS, which is not read here; save it as PNG, JPEG or TIFF",
        ),
        (
            JPEG_OF[:HEIGHT_AT] + b"\0\0" + JPEG_OF[HEIGHT_AT + 2 :],
            "JPEG of a kind not read here: its height stands behind its pixels",
        ),
    ],
)
def test_a_file_that_would_be_taken_for_another_picture_is_refused_by_name(head, data, said):
    with pytest.raises(Rejected, match=said) as stop:
        head(data)
    assert stop.value.reason == "unsupported"


def test_what_follows_an_image_is_left_and_what_precedes_it_is_not():
    data = encoded(Image.fromarray(RGB), "JPEG")
    want = images.decode(data, extract=EXTRACT)
    assert np.array_equal(images.decode(data + b"junk" * 99, extract=EXTRACT), want)
    assert np.array_equal(images.decode(data + data, extract=EXTRACT), want)
    with pytest.raises(Rejected) as stop:
        images.decode(b"junk" + data, extract=EXTRACT)
    assert stop.value.reason == "not_an_image"


def test_too_many_pixels_are_refused_by_the_header_alone(head):
    with pytest.raises(Rejected) as stop:
        head(encoded(Image.new("1", (3000, 3000))), max_pixels=8_999_999)
    assert stop.value.reason == "too_many_pixels"
    assert stop.value.detail == ("image: 3,000 × 3,000 pixels, over bucket.max_pixels 8,999,999")
    assert head(encoded(Image.new("1", (3000, 3000))), max_pixels=9_000_000)[0]["width"] == 3000


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA"])
def test_eight_bit_images_have_pillows_pixels(mode):
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    image = Image.fromarray(RGB).convert(mode)
    got = images.decode(encoded(image, kind), extract=EXTRACT)
    assert np.array_equal(got, np.asarray(image.convert("RGB")))
    assert got.flags.c_contiguous


def test_sixteen_bits_are_scaled_by_the_levels_and_never_clipped_to_white():
    values = np.linspace(600, 1100, 2400).reshape(40, 60).astype(np.uint16)
    data = encoded(Image.fromarray(values))
    full = images.decode(data, extract=EXTRACT)
    assert np.array_equal(full[..., 0], np.rint(values / 65535 * 255).astype(np.uint8))
    window = ExtractParams(extractor="filters", intensity_range=(600.0, 1100.0))
    got = images.decode(data, extract=window)
    assert np.array_equal(got[..., 1], np.rint((values - 600.0) / 500 * 255).astype(np.uint8))
    assert (got.min(), got.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_of_eight_bits_has_its_own_levels(kind):
    values = np.tile(np.arange(40, 100, dtype=np.uint8), (40, 1))
    window = ExtractParams(extractor="filters", grey_intensity_range=(50.0, 90.0))
    grey = encoded(Image.fromarray(values), kind)
    plain = images.decode(grey, extract=EXTRACT)
    wanted = np.rint(np.clip((plain - 50.0) / 40, 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(images.decode(grey, extract=window), wanted)
    colour = encoded(Image.fromarray(values).convert("RGB"), kind)
    assert np.array_equal(
        images.decode(colour, extract=window), images.decode(colour, extract=EXTRACT)
    )


def test_floats_are_scaled_too_and_what_is_no_number_is_black():
    values = np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60)
    values[0, 0] = np.nan
    extract = ExtractParams(extractor="filters", intensity_range=(0.0, 1.0))
    got = images.decode(encoded(Image.fromarray(values), "TIFF"), extract=extract)
    assert got[0, 0, 0] == 0
    assert np.array_equal(
        got.ravel()[3:,], np.repeat(np.rint(values.ravel()[1:] * 255), 3).astype(np.uint8)
    )


def is_deep(path):
    with Image.open(path) as image:
        return image.mode.startswith("I")


def test_a_real_sixteen_bit_frame_is_not_white():
    path = SHARED / "flowcam" / "TC18_280524_4840.tif"
    frames = [path, SHARED / "flowcam" / "copepod_1.tif"]
    deep = [path for path in frames if path.exists() and is_deep(path)]
    if not deep:
        pytest.skip("the frames are not here")
    extract = ExtractParams(extractor="filters", intensity_range=(637.0, 1017.0))
    got = images.decode(deep[0].read_bytes(), extract=extract)
    assert 20 < got.mean() < 250
    assert got.std() > 5


@pytest.mark.parametrize(("alpha", "corner"), [("drop", 10), ("white", 255), ("black", 0)])
def test_transparency_is_laid_on_what_is_asked_for(alpha, corner):
    pixels = np.full((4, 4, 4), 10, np.uint8)
    pixels[..., 3] = 0
    pixels[2:, :, 3] = 255
    extract = ExtractParams(extractor="filters", alpha=alpha)
    got = images.decode(encoded(Image.fromarray(pixels)), extract=extract)
    assert got[0, 0].tolist() == [corner] * 3
    assert got[3, 3].tolist() == [10] * 3


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    data = encoded(image, transparency=1)
    white = ExtractParams(extractor="filters", alpha="white")
    assert images.decode(data, extract=white)[0, 0].tolist() == [255, 255, 255]
    assert images.decode(data, extract=EXTRACT)[0, 0].tolist() == [200, 100, 50]


PACKED = {
    "progressive": ("JPEG", {"progressive": True}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "lossless": ("WEBP", {"lossless": True}),
}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "JPEG2000", *PACKED]
)
def test_a_truncated_image_is_never_half_grey(kind, share):
    name, options = PACKED.get(kind, (kind, {}))
    data = encoded(Image.fromarray(np.tile(RGB, (5, 5, 1))), name, **options)
    with pytest.raises(Rejected) as stop:
        images.decode(data[: int(len(data) * share)], extract=EXTRACT)
    assert stop.value.reason in {"truncated", "not_an_image"}


def test_a_library_that_lets_truncated_images_pass_does_not_change_that(monkeypatch):
    """PySpacer switches Pillow's LOAD_TRUNCATED_IMAGES on as soon as it is imported."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(np.tile(RGB, (5, 5, 1))), "JPEG")
    with pytest.raises(Rejected) as stop:
        images.decode(data[: len(data) // 3], extract=EXTRACT)
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize("mode", sorted(images.PLAIN | images.DEEP))
@pytest.mark.parametrize("alpha", ["drop", "white", "black"])
def test_every_mode_that_is_let_through_has_a_rule(mode, alpha):
    got = images._rgb(Image.new(mode, (5, 4)), ExtractParams(extractor="filters", alpha=alpha))
    assert (got.shape, got.dtype, got.flags.c_contiguous) == ((4, 5, 3), np.uint8, True)


def test_flipped_bits_give_pixels_or_a_reject_and_nothing_else():
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"):
        valid = encoded(Image.fromarray(RGB), kind)
        for _ in range(60):
            data = bytearray(valid)
            for place in rng.integers(0, len(data), 5):
                data[place] ^= 1 << int(rng.integers(8))
            try:
                got = images.decode(bytes(data), extract=EXTRACT)
            except Rejected:
                continue
            assert got.dtype == np.uint8
            assert got.shape[2] == 3


def test_pixels_that_are_not_defined_here_are_said_to_be_so(monkeypatch):
    monkeypatch.setattr(images, "PLAIN", frozenset())
    with pytest.raises(Rejected) as stop:
        images.decode(encoded(Image.fromarray(RGB)), extract=EXTRACT)
    assert (stop.value.reason, stop.value.detail) == (
        "unsupported",
        "pixels of mode 'RGB' are not defined here",
    )


def pillows(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    mode=st.sampled_from(["RGB", "L", "CMYK"]),
    options=st.fixed_dictionaries(
        {
            "quality": st.integers(1, 100),
            "subsampling": st.sampled_from([0, 1, 2]),
            "progressive": st.booleans(),
        }
    ),
    seed=st.integers(0, 9),
)
def test_a_jpegs_pixels_are_pillows(size, mode, options, seed):
    rng = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    coarse = rng.integers(0, 256, (size[1] // 5 + 1, size[0] // 5 + 1, bands), np.uint8)
    pixels = coarse.repeat(5, 0).repeat(5, 1)[: size[1], : size[0]]
    data = encoded(Image.frombytes(mode, size, pixels.tobytes()), "JPEG", **options)
    assert np.array_equal(images.decode(data, extract=EXTRACT), pillows(data))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0.1, 1), bit=st.integers(0, 7))
def test_a_jpeg_with_a_flipped_bit_has_pillows_pixels_too(place, bit):
    """Whatever the faster decoder so much as warns of, Pillow decides; but not of missing data."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = bytearray(encoded(Image.fromarray(coarse.repeat(9, 0).repeat(9, 1)), "JPEG"))
    data[int(place * (len(data) - 1))] ^= 1 << bit
    try:
        wanted = pillows(bytes(data))
    except (OSError, SyntaxError, ValueError):
        with pytest.raises(Rejected):
            images.decode(bytes(data), extract=EXTRACT)
    else:
        try:
            assert np.array_equal(images.decode(bytes(data), extract=EXTRACT), wanted)
        except Rejected as why:
            assert "premature end of data segment" in why.detail  # noqa: PT017


def test_the_first_picture_of_a_camera_that_writes_two_is_taken():
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(images.decode(data, extract=EXTRACT), pillows(data))


VALUES = np.array([[0, 0, 7], [0, 9, 0]], np.uint8)


@pytest.mark.parametrize(
    ("data", "nodata", "shown"),
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
def test_pixels_without_data_are_those_of_the_stated_value_as_stored(data, nodata, shown):
    assert images.valid(data, nodata).tolist() == np.array(shown, bool).tolist()


def test_no_data_of_a_tiff_that_lies_on_its_side_is_where_its_pixels_are_stored():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(VALUES), "TIFF", exif=exif)
    assert images.valid(data, 0).tolist() == (VALUES != 0).tolist()


def test_pixels_of_a_damaged_image_are_not_guessed():
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)))
    with pytest.raises(Rejected) as stop:
        images.valid(data[:-900], 0)
    assert stop.value.reason == "truncated"
