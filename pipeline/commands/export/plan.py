"""Chips that are to be given back as files: what is known of each, and which file holds which."""

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
from pipeline.commands.export import names as chipnames
from pipeline.config.sections import ExtractParams
from pipeline.config.templates import Template
from pipeline.core import schemas
from pipeline.core.hashing import digest
from pipeline.images import encode, windows
from pipeline.store import outputs, tables
from pipeline.store.outputs import CHIPS, LABELS

OWN = MANIFEST, TABLE, TASKS = "manifest.json", "chips.parquet", "tasks.json"
"""What an export writes beside the chips."""

MEMBERS = 500
"""Chips in one tar: with 224 × 224 pixels as PNG some 40 MB."""

DIGEST_BYTES = 16
"""Of a name: many are held to find two that are one."""

MEASUREMENTS = LABELS / "measurements"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is asked of an export.

    Attributes:
        target: a folder, or s3://bucket/prefix.
        kind: png or jpeg.
        name: the template of names.
        tars: whether chips are packed into tars, as WebDataset reads them.
        labelstudio: where Label Studio finds the files; None: no tasks are wanted.
    """

    target: str
    kind: Literal["png", "jpeg"]
    name: Template
    tars: bool = False
    labelstudio: str | None = None

    @property
    def in_files(self) -> bool:
        """Whether each chip is a file of a folder: not in a tar, nor an object on S3."""
        return not self.tars and not self.target.startswith("s3://")

    @property
    def of_keys(self) -> list[str]:
        """Fields of `index.pattern` that names have."""
        return [field for field in self.name.fields if field not in chipnames.FIELDS]

    @property
    def needed(self) -> list[str]:
        """What a chip has no name without."""
        return [*self.of_keys, *(field for field in self.name.fields if field == "label")]


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file to be: its key below the target, its chips, and the digest of all that shapes it."""

    key: str
    rows: Sequence[Row]
    made_from: str


class ChipMetadata:
    """What is known of every chip: schemas.EXPORTED without a name and a file, a shard at a time.

    Place and time are the image's, or, of an instrument's chip, its own.

    Args:
        of_keys: which fields of `index.pattern` are wanted, too.

    Raises:
        InputError: the chip stage has not run.
    """

    def __init__(self, of_keys: Sequence[str]) -> None:
        self.paths = outputs.shard_paths(CHIPS)
        said = ["chip_id", "label", "group", "split"]
        self.labels = tables.labels(said)
        of_image = ["key", "shard", "captured_at", "latitude", "longitude", *of_keys]
        self.headers = tables.images(of_image)
        self.measured = [_own(path) for path in sorted(MEASUREMENTS.glob("*.parquet"))]

    def rows(self, asked: ExportRequest) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """Give the chips of each shard that have a name, and how many of it have none.

        A template that speaks of labels, or of fields of `index.pattern`, names those chips alone
        that have them.
        """
        for path in self.paths:
            chips = tables.read(path, schemas.CHIPS.names)
            chips = _beside(chips, self.labels, "chip_id")
            chips = _beside(chips, self.headers, "key")
            for measured in self.measured:
                chips = _measured(chips, measured)
            rows = chips.to_pylist()
            kept = [row for row in rows if all(row[name] is not None for name in asked.needed)]
            yield kept, len(rows) - len(kept)


def _own(path: Path) -> pa.Table:
    """Read where and when an instrument took its chips."""
    wanted = {"chip_id", "latitude", "longitude", "timestamp"}
    with pq.ParquetFile(path) as file:
        return file.read([name for name in file.schema_arrow.names if name in wanted])


def _beside(chips: pa.Table, other: pa.Table, on: str) -> pa.Table:
    """Put the other columns of *other* beside *chips*; null where it has no such row."""
    place = pc.index_in(chips[on], value_set=other[on].combine_chunks())
    for name in other.column_names:
        if name != on:
            chips = chips.append_column(name, other[name].take(place))
    return chips


def _measured(chips: pa.Table, measured: pa.Table) -> pa.Table:
    place = pc.index_in(chips["chip_id"], value_set=measured["chip_id"].combine_chunks())
    own = {"latitude": "latitude", "longitude": "longitude", "captured_at": "timestamp"}
    for name, theirs in own.items():
        at = chips.schema.get_field_index(name)
        kind = chips.schema.field(name).type
        if theirs in measured.column_names and measured.schema.field(theirs).type == kind:
            better = pc.coalesce(measured[theirs].take(place), chips[name])
            chips = chips.set_column(at, name, better)
    return chips


def count(known: ChipMetadata, asked: ExportRequest) -> tuple[int, int]:
    """Count the chips that have a name, and those that have none.

    Raises:
        SettingError: two chips have one name, or a name is too long for a file.
    """
    ending = encode.EXTENSIONS[asked.kind]
    seen: set[bytes] = set()
    nameless = 0
    for rows, without in known.rows(asked):
        nameless += without
        for row in rows:
            given = chipnames.name(asked.name, row)
            if asked.in_files and not chipnames.fits(f"{given}.{ending}"):
                raise chipnames.too_long(asked.name, row, given)
            if not asked.tars and "/" in given and given.partition("/")[0] in OWN:
                raise chipnames.in_the_way(asked.name, row, given)
            digested = blake2b(given.encode(), digest_size=DIGEST_BYTES).digest()
            if digested in seen:
                every = (one for some, _ in known.rows(asked) for one in some)
                first = next(one for one in every if chipnames.name(asked.name, one) == given)
                raise chipnames.doubled(asked.name, first, row)
            seen.add(digested)
    return len(seen), nameless


def plan(
    known: ChipMetadata, asked: ExportRequest, extract: ExtractParams
) -> Iterator[list[FilePlan]]:
    """Give the files to be of each shard: of other images most tars stay as they are."""
    code = [encode.VERSION, images.VERSION, windows.VERSION]
    base = digest({"code": code, "kind": asked.kind, "extract": extract.recipe_fields()})
    for rows, _ in known.rows(asked):
        every = [{**row, "name": chipnames.name(asked.name, row)} for row in rows]
        if asked.tars:
            yield list(_tars(every, base))
        else:
            ending = encode.EXTENSIONS[asked.kind]
            yield [
                FilePlan(f"{row['name']}.{ending}", [row], digest([base, _facts(row)]))
                for row in every
            ]


def _tars(rows: Sequence[Row], base: str) -> Iterator[FilePlan]:
    for number, start in enumerate(range(0, len(rows), MEMBERS)):
        some = rows[start : start + MEMBERS]
        said = [[sample(row), _facts(row), said_of(row).decode()] for row in some]
        yield FilePlan(f"{some[0]['shard']:04d}-{number:04d}.tar", some, digest([base, said]))


def exif_fields(row: Row) -> encode.ExifFields:
    """Give what a chip's EXIF says."""
    return encode.ExifFields(row["chip_id"], row["latitude"], row["longitude"], row["captured_at"])


def _facts(row: Row) -> list[Any]:
    at = row["captured_at"]
    return [row["chip_id"].hex(), row["latitude"], row["longitude"], at and at.isoformat()]


def sample(row: Row) -> str:
    """Give a chip's name in a tar: WebDataset takes all behind the first dot for the ending."""
    folder, slash, name = row["name"].rpartition("/")
    return f"{folder}{slash}{name.replace('.', '%2E')}"


def said_of(row: Row) -> bytes:
    """Give what stands beside a chip in a tar, as JSON."""
    names = ("key", "row", "col", "top", "left", "height", "width", "label", "group", "split")
    said = {name: row[name] for name in names} | {"chip_id": row["chip_id"].hex()}
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode()
