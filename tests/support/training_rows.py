"""Labelled features to train on."""

import numpy as np
import pyarrow as pa

from pipeline.train.fit import Splits, fit
from pipeline.train.labelled_features import FeatureBlock, FeatureShards, LabelledFeatures


def blobs(count, seed=0, dim=12, classes=3, spread=1.6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dim))
    y = rng.integers(0, classes, count)
    x = (centres[y] + rng.normal(0, spread, (count, dim))).astype(np.float32) * 7 + 40
    return LabelledFeatures.of(x, [f"c{number}" for number in y])


def trained(train, rows=None, held=None):
    return fit(Splits(rows or blobs(600), held or blobs(300, seed=1)), train, "cpu")


def files(fitted):
    return fitted.classifier.files()


def in_blocks(features, labels, sizes):
    """Return rows as shards hold them: in blocks of *sizes*, each with rows from anywhere."""
    order = np.random.default_rng(5).permutation(len(labels))
    edges = np.minimum(np.cumsum(sizes), len(labels))
    blocks = [part for part in np.split(order, edges) if len(part)]
    return LabelledFeatures(
        pa.table({"label": labels}),
        features.shape[1],
        [FeatureBlock("", 0, part, part) for part in blocks],
        FeatureShards(cache={("", 0): features}),
    )


GIB = 2**30


def splits(memory_rows=None):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    y = rng.integers(0, 4, 500)
    x = (centres[y] + rng.normal(size=(500, 8))).astype(np.float32)
    labels = [f"c{number}" for number in y]
    sizes = [60] * 5
    return Splits(in_blocks(x[:400], labels[:400], sizes), in_blocks(x[400:], labels[400:], [30]))
