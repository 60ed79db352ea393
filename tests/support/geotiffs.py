"""Scenes of any type and number of bands, written by GDAL in its usual layouts."""

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

HEIGHT, WIDTH = 45, 70


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
LAYOUTS = {
    "plain": {},
    "LZW tiles": {"compress": "lzw", "predictor": 2, **TILED},
    "separate bands": {"compress": "deflate", "interleave": "band"},
    "separate tiles": {"compress": "zstd", "interleave": "band", "predictor": 2, **TILED},
    "BigTIFF, PackBits": {"compress": "packbits", "BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG", "compress": "lzw", "predictor": 2},
}
