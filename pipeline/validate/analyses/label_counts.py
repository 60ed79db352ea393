"""Labels and classes by the number of their chips: before the label map, after it, and in pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import label_sets
from pipeline.validate.analyses import Result
from pipeline.validate.analyses.splits import SPLITS
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation
from pipeline.validate.metrics import Metric

ORDER = 80

METRICS = {
    "n_images": Metric("images that the evaluated chips are from"),
    "n_train": Metric("labelled chips of the train split, before the label map"),
    "n_calibration": Metric("labelled chips of the calibration split, before the label map"),
}


def analyse(data: ValidationData) -> Result:
    """Count labels, classes, and the chips that two classes share."""
    separator = data.predictions.separator
    counted = count(data.labels, data.label_map, separator)
    tables = {"labels": of_labels(counted), "classes": of_classes(counted)}
    if separator is not None:
        tables["cooccurrence"] = cooccurrence(counted)
    return Result(metrics=totals(data.evaluation, data.labels), tables=tables)


def totals(evaluation: Evaluation, labels: pa.Table) -> dict[str, float]:
    """Count images of the validation split, and labelled chips, schemas.LABELS, of the others."""
    of_split = {
        f"n_{split}": int(pc.sum(pc.equal(labels["split"], split)).as_py() or 0)
        for split in ("train", "calibration")
    }
    return {"n_images": len(np.unique(evaluation.images)), **of_split}


def count(
    labels: pa.Table, label_map: Mapping[str, str | None], separator: str | None = None
) -> pd.DataFrame:
    """Count the labelled chips of each split by their set of labels.

    Args:
        labels: schemas.LABELS.
        label_map: the class of each label that has another name; None if it is left out.
        separator: between the labels of a chip; None if it has exactly one.

    Returns:
        One row for each `label` of each set: `split` and `set`, its `class` ("" if it is left out),
        and the number of `chips` with that set.
    """
    rows = labels.group_by(["split", "label"])
    table = rows.aggregate([([], "count_all")]).to_pandas()
    table.columns = pd.Index(["split", "set", "chips"])
    table["label"] = [label_sets.split(text, separator) for text in table["set"]]
    table = table.explode("label", ignore_index=True).dropna(subset="label")
    table["class"] = [label_map.get(label, label) or "" for label in table["label"]]
    return table


def of_labels(counted: pd.DataFrame) -> pd.DataFrame:
    """Count the chips of each label, commonest first: `label`, `class`, and one column a split."""
    return _by_split(counted, ["label", "class"])


def of_classes(counted: pd.DataFrame) -> pd.DataFrame:
    """Count the chips of each class, commonest first: `class`, `labels`, and one column a split.

    `labels` is how many labels the class has. A chip with several of them counts once.
    """
    classes = _by_split(_classes(counted), ["class"])
    n_labels = counted.groupby("class")["label"].nunique()
    classes.insert(1, "labels", classes["class"].map(n_labels))
    return classes


def cooccurrence(counted: pd.DataFrame) -> pd.DataFrame:
    """Count the chips that two classes share, most first; pairs that share none are left out.

    Returns:
        `class`, `with`, `chips`, and `share`: of the chips of the rarer class.
    """
    classes = _classes(counted)
    alone = classes.groupby("class")["chips"].sum()
    pairs = classes.merge(classes[["split", "set", "class"]], on=["split", "set"])
    pairs = pairs.rename(columns={"class_x": "class", "class_y": "with"})
    pairs = pairs[pairs["class"] < pairs["with"]]
    table = pairs.groupby(["class", "with"])["chips"].sum().reset_index()
    rarer = np.minimum(table["class"].map(alone), table["with"].map(alone))
    table["share"] = table["chips"] / rarer
    order = ["chips", "class", "with"]
    return table.sort_values(order, ascending=[False, True, True], ignore_index=True)


def _classes(counted: pd.DataFrame) -> pd.DataFrame:
    """Return *counted* with each class once for each set, without the labels left out."""
    kept = counted[counted["class"] != ""]
    return kept.drop_duplicates(["split", "set", "class"])


def _by_split(counted: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Add up the chips by *names* and split; the rows with the most chips come first."""
    table = counted.pivot_table("chips", names, "split", "sum", fill_value=0)
    table = table.reindex(columns=list(SPLITS), fill_value=0).sort_index()
    order = table.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index().rename_axis(columns=None)
