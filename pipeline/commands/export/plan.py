"""Plan an export: the metadata of every chip, and which file contains which chips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import images
from pipeline.commands.export import names
from pipeline.config.sections import ExtractParams
from pipeline.config.templates import Template
from pipeline.core import schemas
from pipeline.core.errors import shorten
from pipeline.core.hashing import digest
from pipeline.images import encode, windows
from pipeline.store import outputs, tables
from pipeline.store.outputs import CHIPS, LABELS

OWN_FILES = MANIFEST, TABLE, TASKS = "manifest.json", "chips.parquet", "tasks.json"
"""The files that an export writes besides the chips."""

TAR_CHIPS = 500
"""Chips in one tar: about 40 MB of 224 × 224 pixels as PNG."""

DIGEST_BYTES = 16
"""Of a name: a digest of every name is kept to find duplicates."""

SHOWN = 60
"""Letters of a long name in a message."""

MEASUREMENTS = LABELS / "measurements"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and where to.

    Attributes:
        target: a folder, or s3://bucket/prefix.
        kind: png or jpeg.
        name: the template of names.
        tars: whether chips are packed into tars, as WebDataset reads them.
        labelstudio: the address at which Label Studio finds the files; None: write no tasks.
    """

    target: str
    kind: Literal["png", "jpeg"]
    name: Template
    tars: bool = False
    labelstudio: str | None = None

    @property
    def key_fields(self) -> list[str]:
        """The fields of `index.pattern` in the names."""
        return [field for field in self.name.fields if field not in names.FIELDS]

    @property
    def required(self) -> list[str]:
        """The fields in the names that some chips do not have."""
        return [*self.key_fields, *(field for field in self.name.fields if field == "label")]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file: its key below the target, its chips, and the digest of all that it depends on."""

    key: str
    rows: Sequence[Row]
    made_from: str


class ChipMetadata:
    """The metadata of every chip: schemas.EXPORTED up to its file, one shard at a time.

    Place and time are the image's or, for an instrument's chip, its own.

    Raises:
        InputError: the chip stage has not run.
    """

    def __init__(self, request: ExportRequest) -> None:
        self.request = request
        self.paths = outputs.shard_paths(CHIPS)
        self.labels = tables.labels(["chip_id", "label", "group", "split"])
        of_image = ["key", "shard", "captured_at", "latitude", "longitude", *request.key_fields]
        self.headers = tables.images(of_image)
        self.measurements = [
            _read_measurements(path) for path in sorted(MEASUREMENTS.glob("*.parquet"))
        ]

    def rows(self) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Yield the chips of each shard that have a name, and the number of those that have none.

        If the template has a label, or fields of `index.pattern`, chips without them have no name.
        """
        for path in self.paths:
            chips = tables.read(path, schemas.CHIPS.names)
            chips = _joined(chips, self.labels, "chip_id")
            chips = _joined(chips, self.headers, "key")
            for measurements in self.measurements:
                chips = _with_own_place_and_time(chips, measurements)
            rows = chips.to_pylist()
            named = [
                {**row, "name": names.name(self.request.name, row)}
                for row in rows
                if all(row[field] is not None for field in self.request.required)
            ]
            yield named, len(rows) - len(named)


def _read_measurements(path: Path) -> pa.Table:
    """Read where and when an instrument took its chips."""
    wanted = {"chip_id", "latitude", "longitude", "timestamp"}
    with pq.ParquetFile(path) as file:
        return file.read([name for name in file.schema_arrow.names if name in wanted])


def _joined(chips: pa.Table, other: pa.Table, on: str) -> pa.Table:
    """Return *chips* with the other columns of *other*; null where it has no such row."""
    place = pc.index_in(chips[on], value_set=other[on].combine_chunks())
    for name in other.column_names:
        if name != on:
            chips = chips.append_column(name, other[name].take(place))
    return chips


def _with_own_place_and_time(chips: pa.Table, measurements: pa.Table) -> pa.Table:
    place = pc.index_in(chips["chip_id"], value_set=measurements["chip_id"].combine_chunks())
    columns = {"latitude": "latitude", "longitude": "longitude", "captured_at": "timestamp"}
    for name, measured in columns.items():
        at = chips.schema.get_field_index(name)
        kind = chips.schema.field(name).type
        if measured in measurements.column_names and measurements[measured].type == kind:
            values = pc.coalesce(measurements[measured].take(place), chips[name])
            chips = chips.set_column(at, name, values)
    return chips


def count(chips: ChipMetadata) -> tuple[int, int]:
    """Count the chips that have a name, and those that have none.

    Raises:
        SettingError: two chips have one name, or a file cannot have a name.
    """
    request = chips.request
    seen: set[bytes] = set()
    nameless = 0
    for rows, without in chips.rows():
        nameless += without
        for row in rows:
            name = row["name"]
            if not request.tars:
                _check_path(request, row)
            name_digest = blake2b(name.encode(), digest_size=DIGEST_BYTES).digest()
            if name_digest in seen:
                first = next(one for some, _ in chips.rows() for one in some if one["name"] == name)
                problem = "put {key}, {row} and {col}, or {chip_id}, into it"
                raise names.invalid(
                    request.name, row, f"{name!r}, which {names.chip(first)} has too; {problem}"
                )
            seen.add(name_digest)
    return len(seen), nameless


def _check_path(request: ExportRequest, row: Row) -> None:
    path = f"{row['name']}.{encode.EXTENSIONS[request.kind]}"
    longest = max(len(part.encode()) for part in path.split("/"))
    if longest > names.MAX_BYTES and not request.target.startswith("s3://"):
        problem = (
            f"{shorten(path, SHOWN)!r} of {longest:,} bytes, and a file or folder has at most "
            f"{names.MAX_BYTES}; put {{chip_id}} in the place of a long field"
        )
        raise names.invalid(request.name, row, problem)
    first, slash, _ = path.partition("/")
    if slash and first in OWN_FILES:
        problem = (
            f"{path!r}, and {first} is the export's own file; put text before the first field, as "
            "in chips/{label}/…"
        )
        raise names.invalid(request.name, row, problem)


def plan(chips: ChipMetadata, extract: ExtractParams) -> Iterator[list[FilePlan]]:
    """Yield the files of each shard: if some images change, most tars stay as they are."""
    request = chips.request
    code = [encode.VERSION, images.VERSION, windows.VERSION]
    base = digest({"code": code, "kind": request.kind, "extract": extract.recipe_fields()})
    ending = encode.EXTENSIONS[request.kind]
    for rows, _ in chips.rows():
        if request.tars:
            yield list(_tars(rows, base))
        else:
            yield [
                FilePlan(f"{row['name']}.{ending}", [row], digest([base, _exif_values(row)]))
                for row in rows
            ]


def _tars(rows: Sequence[Row], base: str) -> Iterator[FilePlan]:
    for number, start in enumerate(range(0, len(rows), TAR_CHIPS)):
        members = rows[start : start + TAR_CHIPS]
        content = [[sample(row), _exif_values(row), metadata(row).decode()] for row in members]
        key = f"{members[0]['shard']:04d}-{number:04d}.tar"
        yield FilePlan(key, members, digest([base, content]))


def exif_fields(row: Row) -> encode.ExifFields:
    """Return what a chip's EXIF says."""
    return encode.ExifFields(row["chip_id"], row["latitude"], row["longitude"], row["captured_at"])


def _exif_values(row: Row) -> list[Any]:
    at = row["captured_at"]
    return [row["chip_id"].hex(), row["latitude"], row["longitude"], at and at.isoformat()]


def sample(row: Row) -> str:
    """Return a chip's name in a tar: for WebDataset, the ending begins at the first dot."""
    folder, slash, name = row["name"].rpartition("/")
    return f"{folder}{slash}{name.replace('.', '%2E')}"


def metadata(row: Row) -> bytes:
    """Return a chip's metadata in a tar, as JSON."""
    fields = ("key", "row", "col", "top", "left", "height", "width", "label", "group", "split")
    values = {name: row[name] for name in fields} | {"chip_id": row["chip_id"].hex()}
    return json.dumps(values, ensure_ascii=False, sort_keys=True).encode()
