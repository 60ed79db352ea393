"""How many there are of what the figures rest on, and of what a person should look at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.validate.metrics._several import Either

MEANING = {
    "n_images": "images that the judged chips are of",
    "n_train": "labelled chips of the train split, before the label map",
    "n_calibration": "labelled chips of the calibration split, before the label map",
    "n_unlabelled": "chips of all splits that nobody has labelled",
    "n_leaking_groups": "groups with chips in more than one split; the splits leak if there is one",
    "n_exact_duplicates": "pairs of images of different splits with the same bytes",
    "n_near_duplicates": "validation chips that look nearly the same as one that was learnt from",
    "n_label_issues": "labels of the calibration and validation splits that may be wrong",
}
"""What metrics.json says of each; the last four are counted where they are found."""


def counts(judged: Either, labels: pa.Table) -> dict[str, int]:
    """Count images and chips.

    Args:
        judged: the validation split's.
        labels: schemas.LABELS.
    """
    labelled = labels.filter(pc.is_valid(labels["label"]))
    of_split = {
        f"n_{split}": int(pc.sum(pc.equal(labelled["split"], split)).as_py() or 0)
        for split in ("train", "calibration")
    }
    unlabelled = labels.num_rows - labelled.num_rows
    return {"n_images": len(np.unique(judged.images)), **of_split, "n_unlabelled": unlabelled}
