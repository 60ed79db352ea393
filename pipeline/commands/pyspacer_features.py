"""Convert PySpacer's feature files, in every form it has written, to one table of features.

PySpacer keeps one file for each image. Its first were JSON, a list of features without their
points; later ones JSON with points; today's are compressed NumPy archives. A feature without a
point can only be used if it is the only one of its image.

Source: PySpacer 0.14, `data_classes.py: ImageFeatures`.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core import progress, schemas
from pipeline.core.errors import InputError, Missing, StorageError
from pipeline.storage import Storage

FETCHERS = 8
AHEAD = 32
"""Files that are fetched or parsed ahead of the writer."""

GROUP_BYTES = 4 * 1024 * 1024
"""Size of a row group: what must be read to get the features of one image."""

MAX_BYTES = 512 * 1024 * 1024
"""Of one unpacked file: 50,000 points of 1,280 values in float64."""


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """The features of one image.

    Attributes:
        features: float32 [n, dim].
        points: int32 [n, 2], row and column of each; None if the file does not have them.
    """

    features: NDArray[np.float32]
    points: NDArray[np.int32] | None


@dataclass(slots=True)
class Converted:
    """What `convert` has written, and a message for every file left out."""

    images: int
    points: int
    dim: int
    faults: list[str]


def parse(data: bytes) -> ImageFeatures:
    """Read one feature file.

    Raises:
        InputError: it is not one.
    """
    try:
        image = _archive(data) if data[:2] == b"PK" else _json(json.loads(data))
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RuntimeError,  # nested too deeply, encrypted, or of an unknown compression
        EOFError,
        MemoryError,
        OSError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"is not a feature file of PySpacer: {error or type(error)}") from error
    features, points = image.features, image.points
    if features.ndim != 2 or not features.size:  # noqa: PLR2004 - a table
        raise InputError(f"has no features: their shape is {list(features.shape)}")
    if points is not None and (len(points) != len(features) or int(points.min()) < 0):
        raise InputError(f"its {len(points):,} points do not fit its {len(features):,} features")
    if not np.isfinite(features).all():
        raise InputError("has features that are not finite")
    if points is None and len(features) > 1:
        raise InputError(
            f"has {len(features):,} features without their points, as PySpacer's first files do; "
            "extract them again with rows and columns, or here with extract.extractor: coralnet"
        )
    return image


def _archive(data: bytes) -> ImageFeatures:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_BYTES:
        raise ValueError(f"unpacked it has {size:,} bytes, and at most {MAX_BYTES:,} are read")
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        features = _float32(arrays["feat"])
        if not arrays["meta"][0]:
            return ImageFeatures(features, None)
        return ImageFeatures(features, _points(arrays["rows"], arrays["cols"]))


def _json(content: Any) -> ImageFeatures:
    if isinstance(content, list):
        return ImageFeatures(_float32(content), None)
    points = content["point_features"]
    features = _float32([point["data"] for point in points])
    if not content["valid_rowcol"]:
        return ImageFeatures(features, None)
    return ImageFeatures(features, _points([p["row"] for p in points], [p["col"] for p in points]))


def _float32(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # `parse` rejects infinity
        return np.asarray(values, np.float64).astype(np.float32)


def _points(rows: Any, cols: Any) -> NDArray[np.int32]:
    points = np.stack([np.asarray(rows), np.asarray(cols)], axis=1)
    if points.size and points.max() > np.iinfo(np.int32).max:
        raise ValueError("a point is outside every image")
    return points.astype(np.int32, casting="same_kind")


def convert(source: Storage, target: Path, suffix: str, image: str) -> Converted:
    """Write the features of every file of *source* to one Parquet file, schemas.vectors.

    Rows are sorted by key, row and column; if a file has one feature without its point, row and
    column are null. Files that cannot be read, that have several features without their points, or
    that have another dim than the first, are left out.

    Args:
        source: where the files are.
        target: the file to write; it is replaced whole or not at all.
        suffix: the end of the files' keys, which is removed to get the image's key.
        image: the end of the image's key instead.

    Raises:
        InputError: there is no such file, or none that can be read.
        StorageError: *source* cannot be read, or *target* cannot be written.
    """
    keys = {
        item.key.removesuffix(suffix) + image: item.key
        for item in source.list()
        if item.key.endswith(suffix)
    }
    if not keys:
        raise InputError(f"{source.url}: has no object whose key ends in {suffix!r}; see --suffix")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    done = Converted(0, 0, 0, [])
    try:
        with closing(_read(source, keys, done.faults)) as images:
            first = next(images, None)
            if first is None:
                raise InputError(f"{source.url}: no file can be read; first: {done.faults[0]}")
            done.dim = first[1].features.shape[1]
            with schemas.writer(schemas.vectors(done.dim), temporary) as writer:
                for table in _row_groups(chain([first], images), keys, done):
                    writer.write_table(table)
        temporary.replace(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return done


def _read(
    source: Storage, keys: dict[str, str], faults: list[str]
) -> Generator[tuple[str, ImageFeatures]]:
    """Yield each image's key and features, sorted by key; files are read ahead in threads."""
    pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
    jobs = (
        (image, key, pool.submit(_read_one, source, key)) for image, key in sorted(keys.items())
    )
    with (
        progress.shown("pyspacer_features"),
        progress.Progress("pyspacer_features", "files", len(keys)) as bar,
    ):
        progress.expect(len(keys), "files")
        try:
            ahead = deque(islice(jobs, AHEAD))
            while ahead:
                image, key, job = ahead.popleft()
                try:
                    yield image, job.result()
                except (InputError, Missing) as error:
                    faults.append(f"{key}: {error}")
                bar.step()
                ahead.extend(islice(jobs, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read_one(source: Storage, key: str) -> ImageFeatures:
    return parse(source.read(key))


def _row_groups(
    images: Iterator[tuple[str, ImageFeatures]], keys: dict[str, str], done: Converted
) -> Iterator[pa.Table]:
    """Yield tables of about GROUP_BYTES, and count what is in them."""
    waiting: list[pa.Table] = []
    for image, content in images:
        dim = content.features.shape[1]
        if dim != done.dim:
            done.faults.append(
                f"{keys[image]}: has {dim:,} values a point, and the first file {done.dim:,}"
            )
            continue
        waiting.append(_table(image, content))
        done.images, done.points = done.images + 1, done.points + len(content.features)
        if sum(table.nbytes for table in waiting) >= GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _table(key: str, image: ImageFeatures) -> pa.Table:
    count, dim = image.features.shape
    rows, cols = (None, None) if image.points is None else image.points.T
    columns = {
        "key": pa.array([key] * count),
        "row": pa.nulls(count, pa.int32()) if rows is None else pa.array(rows),
        "col": pa.nulls(count, pa.int32()) if cols is None else pa.array(cols),
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(image.features.ravel()), dim),
    }
    return schemas.conform(pa.table(columns), schemas.vectors(dim))
