"""Bounds: where each chip of a georeferenced scene is, in the scene's own coordinates."""

from __future__ import annotations

import io
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.commands import target as targets
from pipeline.core import schemas
from pipeline.core.errors import InputError, Rejected, SettingError, StorageError
from pipeline.images.ranged_file import BLOCK_BYTES, RangedFile
from pipeline.images.windows import Window
from pipeline.storage import Object, Storage
from pipeline.store import tables
from pipeline.store.context import Context

if TYPE_CHECKING:
    from affine import Affine

log = logging.getLogger(__name__)

READERS = 8
BATCH = 64
SCENE = "scene.tif"
"""The file name that GDAL gets for every scene."""


@dataclass(frozen=True, slots=True)
class Georeference:
    """How a scene's pixels map to coordinates.

    Attributes:
        crs: the coordinate reference system, as EPSG:32632, or as WKT where it has no number.
        transform: from (column, row) to (x, y); whole numbers are a pixel's upper left corner.
    """

    crs: str
    transform: Affine

    def bounds(self, window: Window) -> dict[str, float]:
        """Return the lowest and highest x and y of *window*."""
        top, left, height, width = window
        corners = [(left + x, top + y) for x in (0, width) for y in (0, height)]
        xs, ys = zip(*(self.transform * corner for corner in corners), strict=True)
        return {"x_min": min(xs), "y_min": min(ys), "x_max": max(xs), "y_max": max(ys)}


def write(context: Context, target: str) -> tuple[int, int, list[str]]:
    """Write schemas.BOUNDS of all chips of georeferenced images.

    Returns:
        The number of chips, the number of scenes, and the keys of the other images.

    Raises:
        SettingError: rasterio is not installed.
        InputError: there are no chips yet, or none of a scene.
        StorageError, Changed, Missing: an image cannot be read, or is not the indexed version.
    """
    try:
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        raise SettingError(
            "coordinates are read by rasterio, which is not installed; pip install 'quadrat[geo]'"
        ) from error
    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # such images are counted instead
    scenes: dict[str, Georeference] = {}
    others: list[str] = []
    images = tables.images(["key", "version", "size", "format"]).to_pylist()
    with ThreadPoolExecutor(READERS, thread_name_prefix="scenes") as pool:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            read = partial(_georeference, context.bucket)
            for image, reference in zip(batch, pool.map(read, batch), strict=True):
                if reference is None:
                    others.append(image["key"])
                else:
                    scenes[image["key"]] = reference
    parts = [schemas.BOUNDS.empty_table(), *(_bounds(chips, scenes) for chips in tables.chips())]
    table = schemas.conform(pa.concat_tables(parts), schemas.BOUNDS)
    if not table.num_rows:
        raise InputError(
            f"{context.params.bucket.url}: no chip is of a georeferenced TIFF; nothing was written"
        )
    targets.write(target, schemas.to_bytes(table))
    return table.num_rows, len(pc.unique(table["key"])), others


class _SceneFile(RangedFile):
    """A ranged file that keeps its error: GDAL says only that the file is not a TIFF."""

    error: Exception | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception as error:
            self.error = error
            raise


def _georeference(storage: Storage, image: dict[str, Any]) -> Georeference | None:
    """Read the georeference of an image by ranged reads of its header; None if it has none."""
    if image["format"] != "TIFF":
        return None
    import rasterio
    from rasterio.errors import RasterioIOError

    item = Object(key=image["key"], size=image["size"], version=image["version"])
    file = _SceneFile(storage, item)

    def opener(path: str, *_: Any, **__: Any) -> io.BufferedReader:
        if path != SCENE:  # GDAL also looks for other files, which are not indexed
            raise FileNotFoundError(path)
        return io.BufferedReader(file, BLOCK_BYTES)

    try:
        with rasterio.open(SCENE, driver="GTiff", opener=opener) as scene:
            crs, transform = scene.crs, scene.transform
    except RasterioIOError as error:
        if isinstance(file.error, Rejected):
            raise StorageError(file.error.detail) from error
        if file.error is not None:
            raise file.error from error
        log.warning("bounds: %s: cannot be read as a GeoTIFF: %s", item.key, error)
        return None
    if crs is None or transform.is_identity:
        return None
    return Georeference(crs.to_string(), transform)


def _bounds(chips: pa.Table, scenes: dict[str, Georeference]) -> pa.Table:
    keys = pa.array(list(scenes), pa.string())
    rows = []
    for row in chips.filter(pc.is_in(chips["key"], value_set=keys)).to_pylist():
        scene = scenes[row["key"]]
        bounds = scene.bounds((row["top"], row["left"], row["height"], row["width"]))
        chip = {name: row[name] for name in ("chip_id", "key", "row", "col")}
        rows.append({**chip, "crs": scene.crs, **bounds})
    return pa.Table.from_pylist(rows, schemas.BOUNDS)
