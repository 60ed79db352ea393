"""Bounds: where each chip of a georeferenced scene lies, in the scene's own coordinates."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

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
"""What GDAL is told that it reads."""

SIDES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, slots=True)
class Reference:
    """What takes a scene's pixels to coordinates.

    Attributes:
        crs: the coordinate reference system, as EPSG:32632, or as WKT where it has no number.
        transform: from columns and rows to x and y, a pixel being its upper left corner.
    """

    crs: str
    transform: Affine

    def bounds(self, window: Window) -> tuple[float, float, float, float]:
        """Give the lowest and highest x and y of *window*: SIDES."""
        top, left, height, width = window
        corners = [(left + x, top + y) for x in (0, width) for y in (0, height)]
        xs, ys = zip(*(self.transform * corner for corner in corners), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True)
class BoundsSummary:
    """What a table of bounds came to: chips, scenes, and keys of images that are no scenes."""

    chips: int
    scenes: int
    others: list[str]


def write(context: Context, target: Path) -> BoundsSummary:
    """Write schemas.BOUNDS of all chips whose image says where it lies.

    Raises:
        SettingError: rasterio is not installed.
        InputError: there are no chips yet, or none of a scene.
        StorageError, Changed, Missing: an image cannot be read, or is not the indexed version.
    """
    _check_installed()
    storage = context.bucket
    images = tables.images(["key", "version", "size", "format"])
    found: dict[str, Reference] = {}
    others: list[str] = []
    for key, reference in _references(storage, images):
        if reference is None:
            others.append(key)
        else:
            found[key] = reference
    parts = [schemas.BOUNDS.empty_table(), *(_bounds(chips, found) for chips in tables.chips())]
    table = schemas.conform(pa.concat_tables(parts), schemas.BOUNDS)
    if not table.num_rows:
        raise InputError(
            f"{context.params.bucket.url}: no chip is of a GeoTIFF that says where it lies; "
            "nothing was written"
        )
    target.write_bytes(schemas.to_bytes(table))
    return BoundsSummary(table.num_rows, len(pc.unique(table["key"])), others)


def _check_installed() -> None:
    try:
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        raise SettingError(
            "coordinates are read by rasterio, which is not installed; pip install 'quadrat[geo]'"
        ) from error
    # What does not say where it lies is counted, and told at the end.
    warnings.simplefilter("ignore", NotGeoreferencedWarning)


def _references(storage: Storage, images: pa.Table) -> Iterator[tuple[str, Reference | None]]:
    """Read the georeference of every image by ranged reads of its header."""
    rows = images.to_pylist()
    with ThreadPoolExecutor(READERS, thread_name_prefix="scenes") as pool:
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            read = partial(_reference, storage)
            yield from zip((row["key"] for row in some), pool.map(read, some), strict=True)


def _reference(storage: Storage, row: dict[str, Any]) -> Reference | None:
    if row["format"] != "TIFF":
        return None
    item = Object(key=row["key"], size=row["size"], version=row["version"])
    return georeference(storage, item)


class _Stream(RangedFile):
    """A ranged file that remembers what went wrong: GDAL says only that it is no TIFF."""

    fault: Exception | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception as error:
            self.fault = error
            raise


def georeference(storage: Storage, item: Object) -> Reference | None:
    """Give what takes the pixels of a GeoTIFF to coordinates; None: it does not say.

    Raises:
        StorageError, Changed, Missing: the object cannot be read, or is another version.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    stream = _Stream(storage, item)

    def opener(path: str, *_: Any, **__: Any) -> io.BufferedReader:
        if path != SCENE:  # a file beside it, which the bucket's version says nothing of
            raise FileNotFoundError(path)
        return io.BufferedReader(stream, BLOCK_BYTES)

    try:
        with rasterio.open(SCENE, driver="GTiff", opener=opener) as scene:
            crs, transform = scene.crs, scene.transform
    except RasterioIOError as error:
        if isinstance(stream.fault, Rejected):
            raise StorageError(stream.fault.detail) from error
        if stream.fault is not None:
            raise stream.fault from error
        log.warning("bounds: %s: not read as a GeoTIFF: %s", item.key, error)
        return None
    if crs is None or transform.is_identity:
        return None
    return Reference(crs.to_string(), transform)


def _bounds(chips: pa.Table, references: dict[str, Reference]) -> pa.Table:
    known = pa.array(list(references), pa.string())
    rows = [
        {
            **{name: row[name] for name in ("chip_id", "key", "row", "col")},
            "crs": references[row["key"]].crs,
            **dict(zip(SIDES, _sides(references[row["key"]], row), strict=True)),
        }
        for row in chips.filter(pc.is_in(chips["key"], value_set=known)).to_pylist()
    ]
    return pa.Table.from_pylist(rows, schemas.BOUNDS)


def _sides(reference: Reference, row: dict[str, Any]) -> tuple[float, float, float, float]:
    return reference.bounds((row["top"], row["left"], row["height"], row["width"]))
