"""Near duplicates: seconds and memory of the search among many chips.

    python benchmarks/near_duplicates.py [--training 160000] [--validation 20000] [--dim 1280]

Features are synthetic, as in benchmarks/training.py, in Parquet as the extract stage writes
them; one validation chip in 200 is a copy, with a little noise, of a training chip.
Fails if fewer than 90 % of the copies are found, or anything else is.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _shared import about, write_manifest

from pipeline.core import schemas
from pipeline.store import outputs, tables
from pipeline.train import labelled_features
from pipeline.validate import near_duplicates

SHARD_ROWS, LATENT, EVERY = 10_000, 48, 200


def made_up(folder: Path, training: int, validation: int, dim: int) -> None:
    """Write synthetic features and labels; the row of a copy is 1."""
    total = training + validation
    rng = np.random.default_rng(0)
    mix = rng.normal(0, LATENT**-0.5, (LATENT, dim)).astype(np.float32)

    def rows(numbers: np.ndarray) -> np.ndarray:
        """Return the features of training chips by their numbers, the same at every call."""
        latent = np.stack([np.random.default_rng(n).standard_normal(LATENT) for n in numbers])
        found: np.ndarray = np.maximum(latent.astype(np.float32) @ mix + np.float32(0.3), 0)
        return found

    features = folder / "data/features"
    features.mkdir(parents=True)
    (folder / "data/labels").mkdir()
    lines, labels = [], []
    for shard, start in enumerate(range(0, total, SHARD_ROWS)):
        numbers = np.arange(start, min(start + SHARD_ROWS, total))
        is_copy = (numbers >= training) & (numbers % EVERY == 0)
        x = rows(np.where(is_copy, numbers - training, numbers))
        x += is_copy[:, None] * rng.normal(0, 0.05, x.shape).astype(np.float32)
        common = {
            "chip_id": pa.array([n.to_bytes(16, "big") for n in numbers.tolist()], schemas.CHIP_ID),
            "key": [f"{n // 25:08d}.jpg" for n in numbers],
            "row": pa.array(is_copy, pa.int32()),
            "col": pa.array(numbers, pa.int32()),
        }
        made = {
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), dim),
            "decoder_warning": pa.nulls(len(numbers), pa.string()),
        }
        table = pa.table({**common, **made}).cast(schemas.features(dim, "float32"))
        with schemas.writer(table.schema, features / f"{shard:04d}.parquet") as stream:
            stream.write_table(table, row_group_size=schemas.ROW_GROUP_ROWS)
        lines.append({"shard": shard, "rows": len(x), "sha256": str(shard), "input": ""})
        split = np.where(numbers < training, "train", "validation")
        said = {"label": ["a"] * len(x), "group": common["key"], "split": split}
        labels.append(pa.table({**common, **said}).cast(schemas.LABELS))
    manifest = {"stage": "extract", "recipe": "made up", "made_by": {}, "shards": lines}
    write_manifest(folder, outputs.FEATURES, manifest)
    pq.write_table(pa.concat_tables(labels), folder / "data/labels/labels.parquet")
    labelled = {"stage": "chip", "labels": "made up"}
    write_manifest(folder, outputs.LABELS, labelled)


def main() -> int:
    """Search for near duplicates, and print how long it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--training", type=int, default=160_000)
    parser.add_argument("--validation", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1280)
    asked = parser.parse_args()
    about("numpy", "pyarrow")
    with tempfile.TemporaryDirectory() as temporary:
        made_up(Path(temporary), asked.training, asked.validation, asked.dim)
        os.chdir(temporary)
        labels = tables.labels()
        (validation,) = labelled_features.of_splits(labels, "validation")
        before = resource.getrusage(resource.RUSAGE_SELF)
        started = time.perf_counter()
        found = near_duplicates.find(validation, labels)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    copies = int((found.table["row"] == 1).sum())
    there = sum(n % EVERY == 0 for n in range(asked.training, asked.training + found.n_validation))
    print(
        f"{found.n_validation:,} chips against {found.n_training:,} of {asked.dim:,} values: "
        f"{seconds:.1f} s ({busy:.1f} s of processor), peak {after.ru_maxrss / 2**20:.2f} GiB; "
        f"found {copies} of {there} copies, and {len(found.table) - copies} others"
    )
    return int(copies < 0.9 * there or len(found.table) > copies)


if __name__ == "__main__":
    sys.exit(main())
