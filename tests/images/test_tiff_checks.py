"""TIFFs of every kind that tifffile writes: the values that were written, or a reject.

With imagecodecs, tifffile writes more kinds.
"""

import io
from collections import Counter
from itertools import product

import numpy as np
import pytest

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image

tifffile = pytest.importorskip("tifffile")

EXTRACT = ExtractParams(extractor="filters")
HEIGHT, WIDTH = 37, 50
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
BANDS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "rgba": 4, "separated": 4}
PACKED = (None, "zlib", "lzw", "packbits", "zstd", "lzma")
LAYOUTS = ({}, {"tile": (16, 32)}, {"rowsperstrip": 5}, {"bigtiff": True})


def written(kind, bands):
    """Values over the whole range of a type, or, of floats, of the levels."""
    dtype = np.dtype(kind)
    rng = np.random.default_rng(bands)
    if dtype.kind == "f":
        return (rng.random((HEIGHT, WIDTH, bands)) * 60_000).astype(dtype)
    most = np.iinfo(dtype)
    return rng.integers(most.min, most.max, (HEIGHT, WIDTH, bands), dtype, endpoint=True)


def wanted(values, photometric):
    """What docs/rejects.md says of such values."""
    black, white = EXTRACT.intensity_range
    whole = values.astype(np.float64)
    if photometric == "miniswhite":
        whole = np.iinfo(values.dtype).max - whole
    if values.dtype.itemsize == 1:
        eight = whole
    elif photometric != "separated":
        eight = np.clip((whole - black) / (white - black), 0, 1) * 255
    else:
        eight = whole // 256
    if photometric == "separated":
        ink = eight / 255
        return (1 - ink[..., :3]) * (1 - ink[..., 3:]) * 255
    return np.repeat(eight, 3, axis=2) if values.shape[2] == 1 else eight[..., :3]


def encoded(values, photometric, layout, **options):
    """Write a TIFF; None where tifffile cannot."""
    sink = io.BytesIO()
    if photometric == "rgba":
        options |= {"extrasamples": ["unassalpha"]}
    if options.get("planarconfig") == "separate":
        values = values.transpose(2, 0, 1)
    try:
        tifffile.imwrite(
            sink,
            values if values.shape[-1] > 1 else values[..., 0],
            photometric=photometric.removesuffix("a"),
            metadata=None,
            **layout,
            **options,
        )
    except (ValueError, ImportError, TypeError, KeyError, AttributeError):
        return None
    return sink.getvalue()


def every():
    """Every TIFF that tifffile can write here: what it is, its bytes, and the pixels wanted."""
    for kind, (photometric, bands) in product(TYPES, BANDS.items()):
        if photometric == "miniswhite" and kind[0] == "f":
            continue
        values = written(kind, bands)
        want = wanted(values, photometric)
        for order, packed, layout, predictor, planes in product(
            "<>", PACKED, LAYOUTS, (False, True), ("contig", "separate")
        ):
            if (planes == "separate" and bands == 1) or (predictor and packed is None):
                continue
            options = {"byteorder": order, "compression": packed, "predictor": predictor}
            if bands > 1:
                options["planarconfig"] = planes
            data = encoded(values, photometric, layout, **options)
            if data is not None:
                yield f"{kind} {photometric}", (options, layout), data, want


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tiff_has_the_values_that_were_written_or_is_a_reject():
    made, wrong = Counter(), []
    for kind, how, data, want in every():
        try:
            worst = np.abs(decode_image(data, EXTRACT) - want).max()
        except Rejected as why:
            made[kind, why.reason] += 1
            if why.reason != "unsupported":
                wrong.append((kind, how, why.detail))
        else:
            made[kind, "pixels"] += 1
            if worst > 1.01:
                wrong.append((kind, how, worst))
    assert wrong == []
    few = ("u1 rgb", "u1 miniswhite", "u2 minisblack", "f4 minisblack")
    for kind in (*few, "u2 rgb", "i2 rgb", "f4 rgba"):
        assert made[kind, "pixels"] > 10
    assert sum(made.values()) > 500
