"""Read the tables in the outs of earlier stages; InputError says which of them has not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core import rejects
from pipeline.core.errors import InputError
from pipeline.store import outputs
from pipeline.store.outputs import CHIPS, FEATURES, INDEX, LABELS


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of an out.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns and list(columns))
    except (OSError, pa.ArrowException) as error:
        is_gone = isinstance(error, FileNotFoundError)  # whose text is the path alone
        reason = "no such file" if is_gone else " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}); dvc repro makes it again") from error


def images(columns: Sequence[str] | None = None) -> pa.Table:
    """Read the images: schemas.IMAGES and the fields of `index.pattern`."""
    outputs.require_manifest(INDEX)
    return read(INDEX / "images.parquet", columns)


def chips(columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the chips, schemas.CHIPS, one shard at a time."""
    for path in outputs.shard_paths(CHIPS):
        yield read(path, columns)


def decoder_warnings() -> pa.Table:
    """Read which chips the decoder warned of: `chip_id`, `key` and `decoder_warning`, by key."""
    columns = ["chip_id", "key", "decoder_warning"]
    parts = (read(path, columns) for path in outputs.shard_paths(FEATURES))
    return pa.concat_tables(
        part.filter(pc.is_valid(part["decoder_warning"])) for part in parts
    ).sort_by("key")


def labels(columns: Sequence[str] | None = None) -> pa.Table:
    """Read the labels: schemas.LABELS."""
    outputs.require_manifest(LABELS)
    return read(LABELS / "labels.parquet", columns)


def rejected() -> pa.Table:
    """Read the rejects of the stages up to extract: schemas.REJECTS, sorted."""
    stages = ("index", "chip", "extract")
    return rejects.sort(pa.concat_tables([read(outputs.rejects_path(stage)) for stage in stages]))
