"""Features joined to labels, from the outs of the stages before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import outs
from pipeline.hashing import digest
from pipeline.work._context import FEATURES, LABELS


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled chips of one split that have a feature, in the labels' order.

    Attributes:
        labels: rows of schemas.LABELS.
        features: float32 [n, dim].
    """

    labels: pa.Table
    features: NDArray[np.float32]


def labels() -> pa.Table:
    """Read the labels' out.

    Raises:
        InputError: the chip stage has not run.
    """
    outs.require_manifest(LABELS, "chip")
    return pq.read_table(LABELS / "labels.parquet")


def labelled(table: pa.Table, split: str) -> Labelled:
    """Give the labelled rows of *split*, joined to their features by chip_id.

    Chips whose image could not be read have no feature and are left out; the extract stage's
    rejects say why.
    """
    wanted = pc.and_(pc.equal(table["split"], split), pc.is_valid(table["label"]))
    rows = table.filter(wanted).combine_chunks()
    manifest = outs.require_manifest(FEATURES, "extract")
    features: NDArray[np.float32] | None = None
    have = np.zeros(rows.num_rows, bool)
    for line in manifest["shards"]:
        shard = pq.read_table(FEATURES / f"{line['shard']:04d}.parquet")
        places = pc.index_in(shard["chip_id"], value_set=rows["chip_id"]).combine_chunks()
        vectors = shard["feature"].combine_chunks()
        if features is None:
            features = np.zeros((rows.num_rows, vectors.type.list_size), np.float32)
        taken = np.asarray(places.is_valid())
        at = np.asarray(places.drop_null())
        values = vectors.flatten().to_numpy().reshape(len(vectors), -1)
        features[at] = values[taken]
        have[at] = True
    if features is None:
        features = np.zeros((0, 1), np.float32)
    return Labelled(rows.filter(pa.array(have)), features[have])


def inputs() -> dict[str, str]:
    """Digest what training and validation start from, as the manifests before them say."""
    features = outs.require_manifest(FEATURES, "extract")
    said = outs.require_manifest(LABELS, "chip")
    return {
        "features": digest([[line["shard"], line["sha256"]] for line in features["shards"]]),
        "labels": said["labels"],
    }
