"""Pixels of every kind of file, as another decoder reads them; see tests/golden/images.py."""

import zipfile

import numpy as np
import pytest
from conftest import ROOT

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image

ARCHIVE = zipfile.ZipFile(ROOT / "tests" / "golden" / "images.zip")
NAMES = [name for name in ARCHIVE.namelist() if not name.endswith(".rgb")]
DECODED = [name for name in NAMES if f"{name}.rgb" in ARCHIVE.namelist()]

ROUNDING = 1
"""Pillow rounds inks, and 16 bits per colour, to 8 bits in another way than ImageMagick."""

# What the package says about Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

UNSUPPORTED = {
    "bits12.jpg": ("unsupported", "JPEG of an unsupported kind: cannot handle 12-bit layers"),
    "grey32.tif": ("unsupported", "a TIFF with unsigned 32-bit values, which is not supported"),
    "lerc.tif": ("unsupported", "TIFF of an unsupported kind: unknown code 34887"),
    "no_end.jpg": ("truncated", "the image's data end early or are damaged: Premature end of JPEG"),
    "plain.jxl": ("unsupported", "is JPEG XL, which is not supported; save it as PNG, JPEG or T"),
    "signed8.tif": ("unsupported", "a TIFF with signed 8-bit values, which is not supported"),
}


@pytest.mark.parametrize("name", DECODED)
def test_the_pixels_are_those_of_imagemagick(name):
    want = np.frombuffer(ARCHIVE.read(f"{name}.rgb"), np.uint8)
    got = decode_image(ARCHIVE.read(name), ExtractParams(extractor="filters"))
    difference = got.astype(int) - want.reshape(got.shape)
    inexact = (
        "cmyk" in name or "ycck" in name or "16" in name or name in {"deep.pgm", "palette.tif"}
    )
    assert np.abs(difference).max() <= (ROUNDING if inexact else 0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DECODED)))
def test_what_cannot_be_read_correctly_is_rejected_with_its_reason(name):
    with pytest.raises(Rejected) as stop:
        decode_image(ARCHIVE.read(name), ExtractParams(extractor="filters"))
    reason, message = UNSUPPORTED[name]
    assert stop.value.reason == reason
    assert message in stop.value.detail
