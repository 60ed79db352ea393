"""Decoding: the right pixels or a reject, never anything in between."""

import io

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import EXTRACT, RGB, RNG, encoded, exif_of, header_and_bytes_read
from PIL import Image, ImageFile, PngImagePlugin

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images import decode
from pipeline.images.decode import decode_image

# What the package says about Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_recorded_and_never_applied(orientation):
    data = encoded(
        Image.fromarray(RGB), "JPEG", exif=exif_of(t274=orientation).tobytes(), quality=95
    )
    header, _ = header_and_bytes_read(data)
    assert (header["orientation"], header["width"], header["height"]) == (orientation, 60, 40)
    assert decode_image(data, EXTRACT).shape == (40, 60, 3)


SIDES = [(side, packing) for side in range(1, 9) for packing in ("raw", "tiff_lzw")]


@pytest.mark.parametrize(("orientation", "packing"), [*SIDES, (99, "raw")])
def test_a_tiffs_orientation_is_not_applied_either(orientation, packing):
    """Pillow rotates a TIFF when it loads it, and swaps width and height when it opens it."""
    data = encoded(Image.fromarray(RGB), "TIFF", tiffinfo={274: orientation}, compression=packing)
    header, _ = header_and_bytes_read(data)
    assert (header["width"], header["height"]) == (60, 40)
    assert header["orientation"] == (orientation if orientation < 9 else 1)
    assert np.array_equal(decode_image(data, EXTRACT), RGB)


def test_a_deep_tiffs_orientation_is_not_applied_either():
    values = RNG.integers(0, 65536, (40, 60), dtype=np.uint16)
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={274: 6})
    want = np.rint(values / 65535 * 255).astype(np.uint8)
    assert np.array_equal(decode_image(data, EXTRACT)[..., 0], want)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_of_several_frames_the_first_is_used(kind):
    colours = [Image.new("RGB", (8, 8), colour) for colour in ((200, 0, 0), (0, 0, 200))]
    data = encoded(colours[0], kind, save_all=True, append_images=colours[1:])
    red, _, blue = decode_image(data, EXTRACT)[4, 4].tolist()
    assert red > 190
    assert blue < 10


def decoded_by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_of_two_pictures_in_an_mpo_the_first_is_used():
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(decode_image(data, EXTRACT), decoded_by_pillow(data))


def test_junk_after_an_image_is_ignored_and_junk_before_it_is_not():
    data = encoded(Image.fromarray(RGB), "JPEG")
    want = decode_image(data, EXTRACT)
    assert np.array_equal(decode_image(data + b"junk" * 99, EXTRACT), want)
    assert np.array_equal(decode_image(data + data, EXTRACT), want)
    with pytest.raises(Rejected) as stop:
        decode_image(b"junk" + data, EXTRACT)
    assert stop.value.reason == "not_an_image"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA"])
def test_eight_bit_images_have_pillows_pixels(mode):
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    image = Image.fromarray(RGB).convert(mode)
    got = decode_image(encoded(image, kind), EXTRACT)
    assert np.array_equal(got, np.asarray(image.convert("RGB")))
    assert got.flags.c_contiguous


def test_sixteen_bits_are_scaled_by_the_intensity_range_and_not_clipped_to_white():
    values = np.linspace(600, 1100, 2400).reshape(40, 60).astype(np.uint16)
    data = encoded(Image.fromarray(values))
    full = decode_image(data, EXTRACT)
    assert np.array_equal(full[..., 0], np.rint(values / 65535 * 255).astype(np.uint8))
    window = ExtractParams(extractor="filters", intensity_range=(600.0, 1100.0))
    got = decode_image(data, window)
    assert np.array_equal(got[..., 1], np.rint((values - 600.0) / 500 * 255).astype(np.uint8))
    assert (got.min(), got.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_eight_bit_grey_has_an_intensity_range_of_its_own(kind):
    values = np.tile(np.arange(40, 100, dtype=np.uint8), (40, 1))
    window = ExtractParams(extractor="filters", grey_intensity_range=(50.0, 90.0))
    grey = encoded(Image.fromarray(values), kind)
    plain = decode_image(grey, EXTRACT)
    want = np.rint(np.clip((plain - 50.0) / 40, 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(decode_image(grey, window), want)
    colour = encoded(Image.fromarray(values).convert("RGB"), kind)
    assert np.array_equal(decode_image(colour, window), decode_image(colour, EXTRACT))


def test_floats_are_scaled_too_and_nan_is_black():
    values = np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60)
    values[0, 0] = np.nan
    extract = ExtractParams(extractor="filters", intensity_range=(0.0, 1.0))
    got = decode_image(encoded(Image.fromarray(values), "TIFF"), extract)
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
        pytest.skip("needs ../shared/data/flowcam")
    extract = ExtractParams(extractor="filters", intensity_range=(637.0, 1017.0))
    got = decode_image(deep[0].read_bytes(), extract)
    assert 20 < got.mean() < 250
    assert got.std() > 5


@pytest.mark.parametrize(("alpha", "corner"), [("drop", 10), ("white", 255), ("black", 0)])
def test_transparency_is_dropped_or_laid_on_the_chosen_colour(alpha, corner):
    pixels = np.full((4, 4, 4), 10, np.uint8)
    pixels[..., 3] = 0
    pixels[2:, :, 3] = 255
    extract = ExtractParams(extractor="filters", alpha=alpha)
    got = decode_image(encoded(Image.fromarray(pixels)), extract)
    assert got[0, 0].tolist() == [corner] * 3
    assert got[3, 3].tolist() == [10] * 3


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    data = encoded(image, transparency=1)
    white = ExtractParams(extractor="filters", alpha="white")
    assert decode_image(data, white)[0, 0].tolist() == [255, 255, 255]
    assert decode_image(data, EXTRACT)[0, 0].tolist() == [200, 100, 50]


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
        decode_image(data[: int(len(data) * share)], EXTRACT)
    assert stop.value.reason in {"truncated", "not_an_image"}


def test_a_library_that_allows_truncated_images_does_not_change_that(monkeypatch):
    """PySpacer switches Pillow's LOAD_TRUNCATED_IMAGES on as soon as it is imported."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(np.tile(RGB, (5, 5, 1))), "JPEG")
    with pytest.raises(Rejected) as stop:
        decode_image(data[: len(data) // 3], EXTRACT)
    assert stop.value.reason == "truncated"


@pytest.mark.parametrize("mode", sorted(decode.EIGHT_BIT_MODES | decode.DEEP_MODES))
@pytest.mark.parametrize("alpha", ["drop", "white", "black"])
def test_every_supported_mode_can_be_converted(mode, alpha):
    got = decode._rgb_of_image(
        Image.new(mode, (5, 4)), ExtractParams(extractor="filters", alpha=alpha)
    )
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
                got = decode_image(bytes(data), EXTRACT)
            except Rejected:
                continue
            assert got.dtype == np.uint8
            assert got.shape[2] == 3


def test_an_unsupported_mode_is_named(monkeypatch):
    monkeypatch.setattr(decode, "EIGHT_BIT_MODES", frozenset())
    with pytest.raises(Rejected) as stop:
        decode_image(encoded(Image.fromarray(RGB)), EXTRACT)
    assert (stop.value.reason, stop.value.detail) == (
        "unsupported",
        "pixels of mode 'RGB' are not supported",
    )


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
    assert np.array_equal(decode_image(data, EXTRACT), decoded_by_pillow(data))


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0.1, 1), bit=st.integers(0, 7))
def test_a_jpeg_with_a_flipped_bit_has_pillows_pixels_too(place, bit):
    """Pillow decides about whatever the faster decoder warns of, but for missing data."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    data = bytearray(encoded(Image.fromarray(coarse.repeat(9, 0).repeat(9, 1)), "JPEG"))
    data[int(place * (len(data) - 1))] ^= 1 << bit
    try:
        want = decoded_by_pillow(bytes(data))
    except (OSError, SyntaxError, ValueError):
        with pytest.raises(Rejected):
            decode_image(bytes(data), EXTRACT)
    else:
        try:
            assert np.array_equal(decode_image(bytes(data), EXTRACT), want)
        except Rejected as why:
            assert "premature end of" in why.detail.lower()  # noqa: PT017


@pytest.mark.parametrize("step", ["load", "convert"])
def test_too_little_memory_is_not_a_reject(monkeypatch, step):
    """A reject would be kept; there may be more memory tomorrow."""

    def fail(*_):
        raise MemoryError

    data = encoded(Image.fromarray(RGB).convert("L"))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, step, fail)
    with pytest.raises(MemoryError):
        decode_image(data, EXTRACT)
