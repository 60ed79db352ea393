"""Labels and classes by the number of their chips: before the label map, after it, and in pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import label_sets
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation
from pipeline.validate.metrics import Metric

ORDER = 80
SPLITS = ("train", "calibration", "validation")

METRICS = {
    "n_images": Metric("images that the evaluated chips are from"),
    "n_train": Metric("labelled chips of the train split, before the label map"),
    "n_calibration": Metric("labelled chips of the calibration split, before the label map"),
    "n_unlabelled": Metric("chips of all splits without a label"),
}


def analyse(data: ValidationData) -> Result:
    """Count labels, classes, and the chips that two classes share."""
    labels, label_map, separator = data.labels, data.label_map, data.predictions.separator
    tables = {
        "labels": of_labels(labels, label_map, separator),
        "classes": of_classes(labels, label_map, separator),
    }
    if separator is not None:
        tables["cooccurrence"] = cooccurrence(labels, label_map, separator)
    return Result(metrics=totals(data.evaluation, labels), tables=tables)


def totals(evaluation: Evaluation, labels: pa.Table) -> dict[str, float]:
    """Count images of the validation split, and chips of schemas.LABELS."""
    labelled = labels.filter(pc.is_valid(labels["label"]))
    of_split = {
        f"n_{split}": int(pc.sum(pc.equal(labelled["split"], split)).as_py() or 0)
        for split in ("train", "calibration")
    }
    n_unlabelled = labels.num_rows - labelled.num_rows
    return {"n_images": len(np.unique(evaluation.images)), **of_split, "n_unlabelled": n_unlabelled}


def of_labels(
    labels: pa.Table, label_map: Mapping[str, str | None], separator: str | None = None
) -> pd.DataFrame:
    """Count the chips of each label, commonest first.

    Args:
        labels: schemas.LABELS.
        label_map: the class of each label that has another name; None if it is left out.
        separator: between the labels of a chip; None if it has exactly one.

    Returns:
        `label`, `class` (empty if it is left out), and the number of chips in each of SPLITS.
    """
    by_split = {split: _labels(sets, separator) for split, sets in _sets(labels).items()}
    names = sorted({name for counted in by_split.values() for name in counted})
    rows = [
        (name, label_map.get(name, name) or "", *(by_split[split][name] for split in SPLITS))
        for name in names
    ]
    return _commonest_first(pd.DataFrame(rows, columns=["label", "class", *SPLITS]))


def of_classes(
    labels: pa.Table, label_map: Mapping[str, str | None], separator: str | None = None
) -> pd.DataFrame:
    """Count the chips of each class, commonest first.

    A chip with several labels of one class counts once.

    Returns:
        `class`, `labels` (how many it has), and the number of chips in each of SPLITS.
    """
    sets = _sets(labels)
    by_split = {split: _classes(sets[split], label_map, separator) for split in SPLITS}
    members: Counter[str] = Counter()
    for name in {name for split in SPLITS for name in _labels(sets[split], separator)}:
        members[label_map.get(name, name) or ""] += 1
    names = sorted({name for counted in by_split.values() for name in counted})
    rows = [(name, members[name], *(by_split[split][name] for split in SPLITS)) for name in names]
    return _commonest_first(pd.DataFrame(rows, columns=["class", "labels", *SPLITS]))


def cooccurrence(
    labels: pa.Table, label_map: Mapping[str, str | None], separator: str
) -> pd.DataFrame:
    """Count the chips that two classes share, most first; pairs that share none are left out.

    Returns:
        `class`, `with`, `chips`, and `share`: of the chips of the rarer class.
    """
    alone: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for text, count in sum(_sets(labels).values(), Counter[str]()).items():
        own = sorted(_mapped(text, label_map, separator))
        for name in own:
            alone[name] += count
        for pair in combinations(own, 2):
            pairs[pair] += count
    rows = [
        (first, second, count, count / min(alone[first], alone[second]))
        for (first, second), count in pairs.items()
    ]
    rows.sort(key=lambda row: (-row[2], row[0], row[1]))
    return pd.DataFrame(rows, columns=["class", "with", "chips", "share"])


def _commonest_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sort a table, which is sorted by name, by the chips in all splits."""
    chips = table[list(SPLITS)].sum(axis=1)
    order = chips.sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _sets(labels: pa.Table) -> dict[str, Counter[str]]:
    """Count the chips of each split by their text of labels."""
    rows = labels.filter(labels["label"].is_valid()).group_by(["split", "label"])
    counted: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for row in rows.aggregate([([], "count_all")]).to_pylist():
        counted[row["split"]][row["label"]] = row["count_all"]
    return counted


def _labels(sets: Counter[str], separator: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text, count in sets.items():
        for label in label_sets.split(text, separator):
            counted[label] += count
    return counted


def _classes(
    sets: Counter[str], label_map: Mapping[str, str | None], separator: str | None
) -> Counter[str]:
    counted: Counter[str] = Counter()
    for text, count in sets.items():
        for name in _mapped(text, label_map, separator):
            counted[name] += count
    return counted


def _mapped(text: str, label_map: Mapping[str, str | None], separator: str | None) -> set[str]:
    names = (label_map.get(label, label) for label in label_sets.split(text, separator))
    return {name for name in names if name is not None}
