"""Synthetic predictions for tests of metrics and report: small, seeded, with the schema's types."""

import numpy as np
import pyarrow as pa

from pipeline.core import label_sets, schemas


def table(labels, probabilities, classes, groups=None):
    """Make a predictions table; the row of each chip is its place in *labels*."""
    probabilities = np.asarray(probabilities, dtype=np.float32)
    n = len(labels)
    predicted = probabilities.argmax(axis=1)
    columns = {
        "chip_id": pa.array([i.to_bytes(16, "big") for i in range(n)], schemas.CHIP_ID),
        "key": ["a.jpg"] * n,
        "row": list(range(n)),
        "col": [0] * n,
        "group": list(groups) if groups is not None else [f"g{i % 3}" for i in range(n)],
        "label": list(labels),
        "predicted": [classes[i] for i in predicted],
        "score": probabilities.max(axis=1),
        "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
    }
    return schemas.conform(pa.table(columns), schemas.PREDICTIONS)


def random_table(seed, *, n=200, n_classes=4, n_groups=9, unseen=0, hit=1.0):
    """Make predictions that are correct more often than chance; return them and their classes."""
    generator = np.random.default_rng(seed)
    classes = [f"c{i:03d}" for i in range(n_classes)]
    y = generator.integers(0, n_classes, n)
    logits = generator.normal(size=(n, n_classes))
    logits[np.arange(n), y] += hit
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [classes[i] for i in y]
    labels[:unseen] = ["zz unseen"] * unseen
    groups = [f"g{i}" for i in generator.integers(0, n_groups, n)]
    return table(labels, probabilities, classes, groups), classes


def certain_table(labels, predicted, classes, groups=None):
    """Make predictions with the probability 1."""
    probabilities = np.eye(len(classes))[[classes.index(label) for label in predicted]]
    return table(labels, probabilities, classes, groups)


def multilabel_table(truth, predicted, p, classes, unseen=()):
    """Make a predictions table of bool [n, n_classes]; the rows *unseen* have one label more."""
    texts = [label_sets.join((classes[i] for i in np.flatnonzero(row)), ";") for row in predicted]
    labels = [
        label_sets.join([*(classes[i] for i in np.flatnonzero(row)), *["zz"] * (at in unseen)], ";")
        for at, row in enumerate(truth)
    ]
    n = len(truth)
    columns = {
        "chip_id": pa.array([i.to_bytes(16, "big") for i in range(n)], schemas.CHIP_ID),
        "key": [f"{i * 3 // n}.jpg" for i in range(n)],
        "row": list(range(n)),
        "col": [0] * n,
        "group": [f"g{i % 4}" for i in range(n)],
        "label": labels,
        "predicted": texts,
        "score": np.where(predicted, p, 1 - p).min(axis=1),
        "probabilities": pa.array(list(p.astype(np.float32)), pa.list_(pa.float32())),
    }
    return schemas.conform(pa.table(columns), schemas.PREDICTIONS)


def with_keys(predictions, keys):
    """Return *predictions* of chips of the images *keys*."""
    at = predictions.schema.get_field_index("key")
    return predictions.set_column(at, "key", pa.array(keys, pa.string()))
