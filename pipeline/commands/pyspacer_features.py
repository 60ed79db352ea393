"""PySpacer's feature files, in every form it has written, → one table of features.

PySpacer keeps a file an image. Its first were JSON, a list of vectors without their points; later
ones JSON with points; today's are compressed NumPy archives. None needs a network to be read.

Source: PySpacer 0.14, `data_classes.py: ImageFeatures`.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core import schemas
from pipeline.core.errors import InputError, Missing, StorageError
from pipeline.core.progress import Progress
from pipeline.storage import Storage

FETCHERS = 8
AHEAD = 32
"""Files in flight or parsed ahead of the writer."""

GROUP_BYTES = 4 * 1024 * 1024
"""Size of a row group: what a reader that wants one image must read."""

LARGEST_BYTES = 512 * 1024 * 1024
"""Of one image's features, unpacked: 50,000 points of 1,280 values in float64."""

TOLD = 5
"""Files of which a message tells."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """One image's features.

    Attributes:
        features: float32 [N, dim].
        points: int32 [N, 2], row and column of each; None where the file does not say.
    """

    features: NDArray[np.float32]
    points: NDArray[np.int32] | None


@dataclass(frozen=True, slots=True)
class Written:
    """What `convert` has done: images, points, dim, and a sentence for every file left out."""

    images: int
    points: int
    dim: int
    faults: list[str]


def parse(data: bytes) -> Vectors:
    """Read one feature file.

    Raises:
        InputError: it is not one.
    """
    try:
        found = _archive(data) if data[:2] == b"PK" else _json(json.loads(data))
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RuntimeError,  # too deep, encrypted, packed in a way that is not known
        EOFError,
        MemoryError,
        OSError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise InputError(f"not a feature file of PySpacer's: {error or type(error)}") from error
    features, points = found.features, found.points
    if features.ndim != 2 or not features.size:  # noqa: PLR2004 - a table
        raise InputError(f"holds no features: their shape is {list(features.shape)}")
    if points is not None and (len(points) != len(features) or int(points.min()) < 0):
        raise InputError(f"its {len(points):,} points do not fit its {len(features):,} features")
    if not np.isfinite(features).all():
        raise InputError("holds features that are not finite")
    return found


def _archive(data: bytes) -> Vectors:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST_BYTES:
        raise ValueError(f"unpacked it has {size:,} bytes, and at most {LARGEST_BYTES:,} are read")
    with np.load(BytesIO(data), allow_pickle=False) as found:
        features = _float32(found["feat"])
        if not found["meta"][0]:
            return Vectors(features, None)
        return Vectors(features, _points(found["rows"], found["cols"]))


def _json(found: Any) -> Vectors:
    if isinstance(found, list):
        return Vectors(_float32(found), None)
    points = found["point_features"]
    features = _float32([point["data"] for point in points])
    if not found["valid_rowcol"]:
        return Vectors(features, None)
    return Vectors(features, _points([p["row"] for p in points], [p["col"] for p in points]))


def _float32(values: Any) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinity is said to be wrong
        return np.asarray(values, np.float64).astype(np.float32)


def _points(rows: Any, cols: Any) -> NDArray[np.int32]:
    points = np.stack([np.asarray(rows), np.asarray(cols)], axis=1)
    if points.size and points.max() > np.iinfo(np.int32).max:
        raise ValueError("a point lies outside every image")
    return points.astype(np.int32, casting="same_kind")


def convert(source: Storage, target: Path, suffix: str, image: str) -> Written:
    """Write the features of every file of *source* into one Parquet file, schemas.vectors.

    Rows are sorted by key, row and column; where a file does not say which point a feature is of,
    row and column are null and the rows stand as in the file. Files that cannot be read, or that
    have another dim than the first, are left out and said. Only the keys of all are in memory.

    Args:
        source: where the files are.
        target: the file to write; replaced whole or not at all.
        suffix: the end of the files' keys, which is cut off to give the image's.
        image: what the image's key has in its place.

    Raises:
        InputError: there is no such file, or none that can be read.
        StorageError: *source* cannot be read, *target* cannot be written.
    """
    keys = {
        found.key.removesuffix(suffix) + image: found.key
        for found in source.list()
        if found.key.endswith(suffix)
    }
    if not keys:
        raise InputError(f"{source.url}: has no object whose key ends in {suffix!r}; see --suffix")
    faults: list[str] = []
    with Writer(target) as writer:
        for key, vectors in _read(source, sorted(keys.items()), faults):
            if vectors.features.shape[1] != (writer.dim or vectors.features.shape[1]):
                dim = vectors.features.shape[1]
                faults.append(f"{keys[key]}: has {dim:,} values a point, the first {writer.dim:,}")
            else:
                writer.add(key, vectors)
        if not writer.images:
            raise InputError(f"{source.url}: no file can be read; first: {faults[0]}")
    return Written(writer.images, writer.points, writer.dim, faults)


def _read(
    source: Storage, keys: list[tuple[str, str]], faults: list[str]
) -> Iterator[tuple[str, Vectors]]:
    """Give the files' features in order, read ahead in threads."""

    def one(key: str) -> Vectors:
        return parse(source.read(key))

    ahead: deque[tuple[str, str, Future[Vectors]]] = deque()
    waiting = iter(keys)
    with (
        ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch") as pool,
        Progress("featurevectors", "files", len(keys)) as progress,
    ):
        try:
            while True:
                while len(ahead) < AHEAD and (found := next(waiting, None)):
                    ahead.append((*found, pool.submit(one, found[1])))
                if not ahead:
                    return
                image, key, vectors = ahead.popleft()
                try:
                    yield image, vectors.result()
                except (InputError, Missing) as error:
                    faults.append(f"{key}: {error}")
                progress.step()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Writer:
    """A Parquet file that grows by row groups, and is there only once it is whole."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        self.images = self.points = self.dim = 0
        self.open: Any = None
        self.waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def add(self, key: str, vectors: Vectors) -> None:
        """Add one image's features."""
        table = _table(key, vectors)
        self.images, self.points = self.images + 1, self.points + table.num_rows
        self.dim = vectors.features.shape[1]
        self.waiting.append(table)
        if sum(waiting.nbytes for waiting in self.waiting) >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        try:
            if self.open is None:
                self.open = schemas.writer(schemas.vectors(self.dim), self.temporary)
            self.open.write_table(pa.concat_tables(self.waiting).combine_chunks())
        except OSError as error:
            raise _unwritten(self.target, error) from error
        self.waiting.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.waiting:
                self._flush()
            if self.open is not None:
                self.open.close()
            if kind is None:
                self.temporary.replace(self.target)
        except OSError as error:
            raise _unwritten(self.target, error) from error
        finally:
            with suppress(OSError):
                self.temporary.unlink(missing_ok=True)


def _unwritten(target: Path, error: OSError) -> StorageError:
    return StorageError(f"{target}: cannot be written ({error.strerror or error})")


def _table(key: str, vectors: Vectors) -> pa.Table:
    count, dim = vectors.features.shape
    rows, cols = (None, None) if vectors.points is None else vectors.points.T
    columns = {
        "key": pa.array([key] * count),
        "row": pa.nulls(count, pa.int32()) if rows is None else pa.array(rows),
        "col": pa.nulls(count, pa.int32()) if cols is None else pa.array(cols),
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors.features.ravel()), dim),
    }
    return schemas.conform(pa.table(columns), schemas.vectors(dim))


def told(faults: Iterable[str]) -> str:
    """Give the first of *faults* for a person, a line each."""
    lines = list(faults)
    more = [f"and {len(lines) - TOLD:,} more"] if len(lines) > TOLD else []
    return "\n".join(f"  {line}" for line in [*lines[:TOLD], *more])
