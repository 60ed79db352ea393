"""Features joined to labels, from the outs of the stages before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import multilabel, outs, schemas
from pipeline.hashing import digest
from pipeline.work._context import FEATURES, LABELS


@dataclass(frozen=True, slots=True)
class Labelled:
    """Chips of one split that have a feature, in the labels' order.

    Attributes:
        labels: rows of schemas.LABELS.
        dim: values in a feature.
        blocks: row groups of the features' shards in which some of them are.
    """

    labels: pa.Table
    dim: int
    blocks: list[Block]

    def read(self, number: int) -> NDArray[np.float32]:
        """Give the features of a block's rows, float32 [rows, dim]."""
        block = self.blocks[number]
        with pq.ParquetFile(FEATURES / block.file) as file:
            column = file.read_row_group(block.group, columns=["feature"])["feature"]
        vectors = column.combine_chunks()
        values = vectors.flatten().to_numpy().reshape(len(vectors), -1)
        found: NDArray[np.float32] = values[block.rows].astype(np.float32, copy=False)
        return found


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a row group: which they are there, and which of the labelled chips."""

    file: str
    group: int
    rows: NDArray[np.int64]
    at: NDArray[np.int64]


def labels() -> pa.Table:
    """Read the labels' out.

    Raises:
        InputError: the chip stage has not run.
    """
    outs.require_manifest(LABELS, "chip")
    return pq.read_table(LABELS / "labels.parquet")


def names(table: pa.Table, separator: str | None) -> set[str]:
    """Give the labels that occur in a table of labels."""
    texts = pc.unique(table["label"].drop_null()).to_pylist()
    return {label for text in texts for label in multilabel.split(text, separator)}


def labelled(table: pa.Table, *splits: str) -> list[Labelled]:
    """Give the labelled rows of each split, joined to their features by chip_id.

    Chips whose image could not be read have no feature and are left out; the extract stage's
    rejects say why. No feature is read yet.
    """
    split = pc.index_in(table["split"], value_set=pa.array(splits))
    rows = table.filter(pc.and_(pc.is_valid(split), pc.is_valid(table["label"]))).combine_chunks()
    number = np.asarray(pc.index_in(rows["split"], value_set=pa.array(splits)), np.int64)
    return _joined(rows, number, len(splits))


def joined(rows: pa.Table) -> Labelled:
    """Give *rows* of schemas.LABELS, labelled or not, that have a feature."""
    return _joined(rows.combine_chunks(), np.zeros(rows.num_rows, np.int64), 1)[0]


def _joined(rows: pa.Table, number: NDArray[np.int64], parts: int) -> list[Labelled]:
    """Join *rows* to their features; *number* says which of so many *parts* each belongs to."""
    groups: list[tuple[str, int]] = []
    ids: list[pa.ChunkedArray] = []
    dim = 1
    for line in outs.require_manifest(FEATURES, "extract")["shards"]:
        name = f"{line['shard']:04d}.parquet"
        with pq.ParquetFile(FEATURES / name) as file:
            dim = file.schema_arrow.field("feature").type.list_size
            for group in range(file.num_row_groups):
                groups.append((name, group))
                ids.append(file.read_row_group(group, columns=["chip_id"])["chip_id"])
    joined = pa.chunked_array([chunk for some in ids for chunk in some.chunks], schemas.CHIP_ID)
    found = pc.fill_null(pc.index_in(joined, value_set=rows["chip_id"]), -1)
    ends = np.cumsum([len(some) for some in ids])
    have = np.zeros(rows.num_rows, bool)
    blocks = []
    for (name, group), at in zip(groups, np.split(np.asarray(found, np.int64), ends), strict=False):
        own = np.flatnonzero(at >= 0)
        blocks.append(Block(name, group, own, at[own]))
        have[at[own]] = True
    return [_of_split(rows, dim, blocks, have & (number == place)) for place in range(parts)]


def _of_split(rows: pa.Table, dim: int, blocks: list[Block], own: NDArray[np.bool_]) -> Labelled:
    place = np.cumsum(own) - 1
    kept = (
        Block(block.file, block.group, block.rows[own[block.at]], place[block.at[own[block.at]]])
        for block in blocks
    )
    return Labelled(rows.filter(pa.array(own)), dim, [block for block in kept if len(block.at)])


def inputs() -> dict[str, str]:
    """Digest what training and validation start from, as the manifests before them say."""
    features = outs.require_manifest(FEATURES, "extract")
    said = outs.require_manifest(LABELS, "chip")
    return {
        "features": digest([[line["shard"], line["sha256"]] for line in features["shards"]]),
        "labels": said["labels"],
    }
