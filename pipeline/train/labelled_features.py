"""Features joined to labels, from the outs of the stages before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core import label_sets, schemas
from pipeline.core.hashing import digest
from pipeline.store import outputs
from pipeline.store.context import FEATURES, LABELS


@dataclass
class FeatureShards:
    """The features' out, read by row group.

    Attributes:
        room: bytes of features that are kept once they are read, for who reads them again.
    """

    room: int = 0
    kept: dict[tuple[str, int], NDArray[Any]] = field(default_factory=dict)

    def read(self, name: str, group: int) -> NDArray[Any]:
        """Give the features of a row group, as they are stored [rows, dim]; not to be changed."""
        if (found := self.kept.get((name, group))) is not None:
            return found
        with pq.ParquetFile(FEATURES / name) as file:
            column = file.read_row_group(group, columns=["feature"])["feature"]
        vectors = column.combine_chunks()
        values: NDArray[Any] = vectors.flatten().to_numpy().reshape(len(vectors), -1)
        if values.nbytes <= self.room:
            self.room -= values.nbytes
            self.kept[name, group] = values
        return values


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """Chips of one split that have a feature, in the labels' order.

    Attributes:
        labels: rows of schemas.LABELS.
        dim: values in a feature.
        blocks: row groups of the features' shards in which some of them are.
        shards: what they are read by.
    """

    labels: pa.Table
    dim: int
    blocks: list[FeatureBlock]
    shards: FeatureShards

    def read(self, number: int) -> NDArray[np.float32]:
        """Give the features of a block's rows, float32 [rows, dim], in an array of its own."""
        block = self.blocks[number]
        values = self.shards.read(block.file, block.group)
        found: NDArray[np.float32] = values[block.rows].astype(np.float32, copy=False)
        return found


@dataclass(frozen=True, slots=True)
class FeatureBlock:
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
    outputs.require_manifest(LABELS, "chip")
    return pq.read_table(LABELS / "labels.parquet")


def names(table: pa.Table, separator: str | None) -> set[str]:
    """Give the labels that occur in a table of labels."""
    texts = pc.unique(table["label"].drop_null()).to_pylist()
    return {label for text in texts for label in label_sets.split(text, separator)}


def labelled(
    table: pa.Table, *splits: str, shards: FeatureShards | None = None
) -> list[LabelledFeatures]:
    """Give the labelled rows of each split, joined to their features by chip_id.

    Chips whose image could not be read have no feature and are left out; the extract stage's
    rejects say why. No feature is read yet.
    """
    split = pc.index_in(table["split"], value_set=pa.array(splits))
    rows = table.filter(pc.and_(pc.is_valid(split), pc.is_valid(table["label"]))).combine_chunks()
    number = np.asarray(pc.index_in(rows["split"], value_set=pa.array(splits)), np.int64)
    own = [number == place for place in range(len(splits))]
    return _joined(rows, own, shards or FeatureShards())


def joined(rows: pa.Table, shards: FeatureShards | None = None) -> LabelledFeatures:
    """Give *rows* of schemas.LABELS, labelled or not, that have a feature."""
    return _joined(
        rows.combine_chunks(), [np.ones(rows.num_rows, bool)], shards or FeatureShards()
    )[0]


def _joined(
    rows: pa.Table, parts: Sequence[NDArray[np.bool_]], shards: FeatureShards
) -> list[LabelledFeatures]:
    """Join *rows* to their features; each of *parts* says which belong to it."""
    groups: list[tuple[str, int]] = []
    ids: list[pa.ChunkedArray] = []
    dim = 1
    for line in outputs.require_manifest(FEATURES, "extract")["shards"]:
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
        blocks.append(FeatureBlock(name, group, own, at[own]))
        have[at[own]] = True
    whole = LabelledFeatures(rows, dim, blocks, shards)
    return [_of_split(whole, have & own) for own in parts]


def _of_split(whole: LabelledFeatures, own: NDArray[np.bool_]) -> LabelledFeatures:
    """Give those of *whole* that are among the *own* rows."""
    place = np.cumsum(own) - 1
    kept = (
        FeatureBlock(
            block.file, block.group, block.rows[own[block.at]], place[block.at[own[block.at]]]
        )
        for block in whole.blocks
    )
    labels = whole.labels.filter(pa.array(own))
    return replace(whole, labels=labels, blocks=[block for block in kept if len(block.at)])


def inputs() -> dict[str, str]:
    """Digest what training and validation start from, as the manifests before them say."""
    features = outputs.require_manifest(FEATURES, "extract")
    said = outputs.require_manifest(LABELS, "chip")
    return {
        "features": digest([[line["shard"], line["sha256"]] for line in features["shards"]]),
        "labels": said["labels"],
    }
