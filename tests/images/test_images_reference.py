"""Pixels of every kind of file, as an independent decoder sees them; see tests/golden/images.py."""

import zipfile

import numpy as np
import pytest
from conftest import ROOT

from pipeline import images
from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected

ARCHIVE = zipfile.ZipFile(ROOT / "tests" / "golden" / "images.zip")
NAMES = [name for name in ARCHIVE.namelist() if not name.endswith(".rgb")]
SEEN = [name for name in NAMES if f"{name}.rgb" in ARCHIVE.namelist()]

ROUNDING = 1
"""Pillow brings inks, and 16 bits a colour, to 8 bits with another rounding than ImageMagick."""

# What the package says of Pillow's warnings at import, pytest's own settings overrule.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

REFUSED = {
    "bits12.jpg": ("unsupported", "JPEG of a kind not read here: cannot handle 12-bit layers"),
    "grey32.tif": ("unsupported", "a TIFF with unsigned values of 32 bits, which is not read here"),
    "lerc.tif": ("unsupported", "TIFF of a kind not read here: unknown code 34887"),
    "no_end.jpg": ("truncated", "the image's data end early or are damaged: image file is trunc"),
    "plain.jxl": ("unsupported", "is JPEG XL, which is not read here; save it as PNG, JPEG or T"),
    "signed8.tif": ("unsupported", "a TIFF with signed values of 8 bits, which is not read here"),
}


@pytest.mark.parametrize("name", SEEN)
def test_the_pixels_are_those_that_imagemagick_sees(name):
    wanted = np.frombuffer(ARCHIVE.read(f"{name}.rgb"), np.uint8)
    got = images.decode(ARCHIVE.read(name), extract=ExtractParams(extractor="filters"))
    difference = got.astype(int) - wanted.reshape(got.shape)
    inexact = (
        "cmyk" in name or "ycck" in name or "16" in name or name in {"deep.pgm", "palette.tif"}
    )
    assert np.abs(difference).max() <= (ROUNDING if inexact else 0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SEEN)))
def test_what_cannot_be_read_rightly_is_refused_with_its_reason(name):
    with pytest.raises(Rejected) as stop:
        images.decode(ARCHIVE.read(name), extract=ExtractParams(extractor="filters"))
    reason, said = REFUSED[name]
    assert stop.value.reason == reason
    assert said in stop.value.detail
