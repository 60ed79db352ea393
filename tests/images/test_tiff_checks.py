"""TIFFs of every kind that tifffile writes: the values that were written, or a reject."""

import io
from collections import Counter
from itertools import product

import numpy as np
import pytest
import tifffile

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import Rejected
from pipeline.images.decode import decode_image

EXTRACT = ExtractParams(extractor="filters")
HEIGHT, WIDTH = 37, 50
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
BANDS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "rgba": 4, "separated": 4}
COMPRESSIONS = (None, "zlib", "lzw", "packbits", "zstd", "lzma")
LAYOUTS = ({}, {"tile": (16, 32)}, {"rowsperstrip": 5}, {"bigtiff": True})


def random_values(kind, bands):
    """Values over the whole range of a type; floats up to almost the end of the intensity range."""
    dtype = np.dtype(kind)
    rng = np.random.default_rng(bands)
    if dtype.kind == "f":
        return (rng.random((HEIGHT, WIDTH, bands)) * 60_000).astype(dtype)
    most = np.iinfo(dtype)
    return rng.integers(most.min, most.max, (HEIGHT, WIDTH, bands), dtype, endpoint=True)


def expected_pixels(values, photometric):
    """The pixels by the rules of docs/reference/rejects.md."""
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
    """Return a TIFF; None where tifffile cannot write it."""
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


def every_tiff():
    """Yield every TIFF that tifffile writes: what it is, its bytes, and the expected pixels."""
    for kind, (photometric, bands) in product(TYPES, BANDS.items()):
        if photometric == "miniswhite" and kind[0] == "f":
            continue
        values = random_values(kind, bands)
        want = expected_pixels(values, photometric)
        for order, compression, layout, predictor, planes in product(
            "<>", COMPRESSIONS, LAYOUTS, (False, True), ("contig", "separate")
        ):
            if (planes == "separate" and bands == 1) or (predictor and compression is None):
                continue
            options = {"byteorder": order, "compression": compression, "predictor": predictor}
            if bands > 1:
                options["planarconfig"] = planes
            data = encoded(values, photometric, layout, **options)
            if data is not None:
                yield f"{kind} {photometric}", (options, layout), data, want


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tiff_has_the_values_that_were_written_or_is_a_reject():
    results, wrong = Counter(), []
    for kind, how, data, want in every_tiff():
        try:
            worst = np.abs(decode_image(data, EXTRACT) - want).max()
        except Rejected as why:
            results[kind, why.reason] += 1
            if why.reason != "unsupported":
                wrong.append((kind, how, why.detail))
        else:
            results[kind, "pixels"] += 1
            if worst > 1.01:
                wrong.append((kind, how, worst))
    assert wrong == []
    few = ("u1 rgb", "u1 miniswhite", "u2 minisblack", "f4 minisblack")
    for kind in (*few, "u2 rgb", "i2 rgb", "f4 rgba"):
        assert results[kind, "pixels"] > 10
    assert sum(results.values()) > 6_000
