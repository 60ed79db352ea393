"""Labels joined to their features, from the outs of the earlier stages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core import label_sets, schemas
from pipeline.store import outputs, tables
from pipeline.store.outputs import FEATURES, LABELS


@dataclass
class FeatureShards:
    """The features' out, read one row group at a time.

    Attributes:
        cache_bytes: bytes of features to keep in memory once they are read.
        cache: the features kept, by file and row group.
    """

    cache_bytes: int = 0
    cache: dict[tuple[str, int], NDArray[Any]] = field(default_factory=dict)

    def read(self, name: str, group: int) -> NDArray[Any]:
        """Return the features of a row group as they are stored, [rows, dim]; read-only."""
        if (cached := self.cache.get((name, group))) is not None:
            return cached
        with pq.ParquetFile(FEATURES / name) as file:
            column = file.read_row_group(group, columns=["feature"])["feature"]
        vectors = column.combine_chunks()
        values: NDArray[Any] = vectors.flatten().to_numpy().reshape(len(vectors), -1)
        if values.nbytes <= self.cache_bytes:
            self.cache_bytes -= values.nbytes
            self.cache[name, group] = values
        return values


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """Chips that have a feature, in the order of the labels.

    Attributes:
        labels: rows of schemas.LABELS.
        dim: values in a feature.
        blocks: the row groups of the features that contain some of the chips.
        shards: reads the features.
    """

    labels: pa.Table
    dim: int
    blocks: list[FeatureBlock]
    shards: FeatureShards

    @classmethod
    def of(cls, features: NDArray[Any], labels: Sequence[str]) -> LabelledFeatures:
        """Return labelled *features* [n, dim] that are in memory already."""
        rows = np.arange(len(features))
        blocks = [FeatureBlock("", 0, rows, rows)] if len(rows) else []
        shards = FeatureShards(cache={("", 0): features})
        return cls(pa.table({"label": labels}), features.shape[1], blocks, shards)

    @property
    def texts(self) -> list[str]:
        """The label of each chip, or its labels in one string."""
        texts: list[str] = self.labels["label"].to_pylist()
        return texts

    def read(self, number: int) -> NDArray[np.float32]:
        """Return the features of a block's chips, float32 [rows, dim], as a new array."""
        block = self.blocks[number]
        values = self.shards.read(block.file, block.group)
        features: NDArray[np.float32] = values[block.rows].astype(np.float32, copy=False)
        return features


@dataclass(frozen=True, slots=True)
class FeatureBlock:
    """Some rows of a row group.

    Attributes:
        file: the shard's file name.
        group: the row group.
        rows: the rows of the row group, int64.
        at: the positions of their chips in the labels, int64.
    """

    file: str
    group: int
    rows: NDArray[np.int64]
    at: NDArray[np.int64]


def names(labels: pa.Table, separator: str | None) -> set[str]:
    """Return the labels that occur in schemas.LABELS."""
    texts = pc.unique(labels["label"].drop_null()).to_pylist()
    return {label for text in texts for label in label_sets.split(text, separator)}


def of_splits(
    labels: pa.Table, *splits: str, shards: FeatureShards | None = None
) -> list[LabelledFeatures]:
    """Join the labelled rows of each split to their features; see `of_rows`."""
    shards = shards or FeatureShards()
    labelled = labels.filter(pc.is_valid(labels["label"]))
    return [of_rows(labelled.filter(pc.equal(labelled["split"], name)), shards) for name in splits]


def of_both(labels: pa.Table, *splits: str) -> LabelledFeatures:
    """Join the labelled rows of all *splits* together to their features; see `of_rows`."""
    is_in = pc.is_in(labels["split"], value_set=pa.array(splits, pa.string()))
    return of_rows(labels.filter(pc.and_(pc.is_valid(labels["label"]), is_in)))


def of_rows(rows: pa.Table, shards: FeatureShards | None = None) -> LabelledFeatures:
    """Join *rows* of schemas.LABELS to their features by chip_id; no feature is read yet.

    Chips whose image could not be read have no feature and are left out; the rejects of the extract
    stage say why.
    """
    rows = rows.combine_chunks()
    groups: list[tuple[str, int]] = []
    ids: list[pa.ChunkedArray] = []
    dim = 1
    for path in outputs.shard_paths(FEATURES):
        with pq.ParquetFile(path) as file:
            dim = file.schema_arrow.field("feature").type.list_size
            for group in range(file.num_row_groups):
                groups.append((path.name, group))
                ids.append(file.read_row_group(group, columns=["chip_id"])["chip_id"])
    all_ids = pa.chunked_array([chunk for part in ids for chunk in part.chunks], schemas.CHIP_ID)
    positions = pc.index_in(all_ids, value_set=rows["chip_id"])
    at = np.asarray(pc.fill_null(positions, -1), np.int64)
    has_feature = np.zeros(rows.num_rows, bool)
    has_feature[at[at >= 0]] = True
    place = np.cumsum(has_feature) - 1
    blocks = []
    ends = np.cumsum([len(part) for part in ids])
    for (name, group), part in zip(groups, np.split(at, ends), strict=False):
        used = np.flatnonzero(part >= 0)
        if len(used):
            blocks.append(FeatureBlock(name, group, used, place[part[used]]))
    return LabelledFeatures(
        rows.filter(pa.array(has_feature)), dim, blocks, shards or FeatureShards()
    )


def digests_of(*splits: str) -> dict[str, str]:
    """Return digests of the labelled chips of *splits* that have a feature, and of their features.

    Neither depends on chips without a label, nor on how chips are divided into shards. A feature
    is decided by its chip_id, which holds the image's version, and by the recipe of the features.
    """
    features, labels = map(outputs.require_manifest, (FEATURES, LABELS))
    shards = tuple(line["sha256"] for line in features["shards"])
    return {
        "features": features["recipe"],
        "labels": _digest_of_labelled(splits, labels["labels"], shards),
    }


@cache
def _digest_of_labelled(splits: Sequence[str], labels: str, shards: Sequence[str]) -> str:  # noqa: ARG001
    """Return the digest of the labelled chips of *splits* that have a feature.

    A stage asks several times: the digests of the labels and of the *shards* say what is the same.
    """
    rows = tables.labels()
    rows = rows.filter(pc.is_valid(rows["label"]))
    rows = rows.filter(pc.is_in(rows["split"], value_set=pa.array(splits, pa.string())))
    parts = [tables.read(path, ["chip_id"]) for path in outputs.shard_paths(FEATURES)]
    ids = pa.concat_tables([pa.table({"chip_id": pa.array([], schemas.CHIP_ID)}), *parts])[
        "chip_id"
    ]
    # Twice: of chips without a label, which may be far more, no index is made.
    of_rows = ids.filter(pc.is_in(ids, value_set=rows["chip_id"].combine_chunks()))
    rows = rows.filter(pc.is_in(rows["chip_id"], value_set=of_rows.combine_chunks()))
    data = schemas.to_bytes(schemas.conform(rows, schemas.LABELS))
    return hashlib.sha256(data).hexdigest()
