"""Chips that are to be given back as files: what is known of each, and which file holds which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import chipnames, images, outs, pictures, schemas, windows
from pipeline.hashing import digest
from pipeline.sections import Extract
from pipeline.templates import Template
from pipeline.work._context import CHIPS, INDEX, LABELS

MEMBERS = 500
"""Chips in one tar: with 224 × 224 pixels as PNG some 40 MB."""

MEASUREMENTS = LABELS / "measurements"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
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


@dataclass(frozen=True, slots=True)
class Planned:
    """One file to be: its key below the target, its chips, and the digest of all that shapes it."""

    key: str
    rows: Sequence[Row]
    made_from: str


def known(of_keys: Sequence[str] = ()) -> pa.Table:
    """Give every chip with what is known of it: schemas.EXPORTED without a name and a file.

    Place and time are the image's, or, of an instrument's chip, its own.

    Args:
        of_keys: which fields of `index.pattern` are wanted, too.

    Raises:
        InputError: the chip stage has not run.
    """
    lines = outs.require_manifest(CHIPS, "chip")["shards"]
    columns = schemas.CHIPS.names
    parts = [
        pq.read_table(CHIPS / f"{line['shard']:04d}.parquet", columns=columns) for line in lines
    ]
    chips = pa.concat_tables([schemas.CHIPS.empty_table(), *parts])
    chips = schemas.conform(chips, schemas.CHIPS)
    outs.require_manifest(LABELS, "chip")
    labels = pq.read_table(
        LABELS / "labels.parquet", columns=["chip_id", "label", "group", "split"]
    )
    of_image = ["key", "shard", "captured_at", "latitude", "longitude", *of_keys]
    headers = pq.read_table(INDEX / "images.parquet", columns=of_image)
    chips = _beside(_beside(chips, labels, "chip_id"), headers, "key")
    for path in sorted(MEASUREMENTS.glob("*.parquet")):
        chips = _measured(chips, pq.read_table(path))
    return chips


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


def plan(asked: Asked, extract: Extract) -> tuple[list[Planned], int]:
    """Give the files to be, sorted by their chips; and how many chips have no name.

    A template that speaks of labels, or of fields of `index.pattern`, names those chips alone
    that have them.
    """
    more = [field for field in asked.name.fields if field not in chipnames.FIELDS]
    rows = known(more).to_pylist()
    needed = [field for field in asked.name.fields if field == "label" or field in more]
    named = [row for row in rows if all(row[field] is not None for field in needed)]
    names = chipnames.names(asked.name, named)
    every = [{**row, "name": name} for row, name in zip(named, names, strict=True)]
    code = [pictures.VERSION, images.VERSION, windows.VERSION]
    base = digest({"code": code, "kind": asked.kind, "extract": extract.shaping()})
    if not asked.tars:
        ending = pictures.ENDINGS[asked.kind]
        planned = [
            Planned(f"{row['name']}.{ending}", [row], digest([base, _facts(row)])) for row in every
        ]
    else:
        planned = list(_tars(every, base))
    return planned, len(rows) - len(named)


def _tars(rows: Sequence[Row], base: str) -> Iterator[Planned]:
    """Pack chips by their image's shard, so that other images leave most tars as they are."""
    by_shard = sorted(rows, key=lambda row: int(row["shard"]))  # and by key, row, col, as they came
    for shard, grouped in groupby(by_shard, lambda row: int(row["shard"])):
        own = list(grouped)
        for number, start in enumerate(range(0, len(own), MEMBERS)):
            some = own[start : start + MEMBERS]
            said = [[sample(row), _facts(row), said_of(row).decode()] for row in some]
            yield Planned(f"{shard:04d}-{number:04d}.tar", some, digest([base, said]))


def facts(row: Row) -> pictures.Facts:
    """Give what a chip's EXIF says."""
    return pictures.Facts(row["chip_id"], row["latitude"], row["longitude"], row["captured_at"])


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
