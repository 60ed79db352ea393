"""Labels that are likely to be wrong, for a person to look at again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.metrics._judged import Floats, Indices, Judged


def suspects(judged: Judged) -> tuple[Indices, Indices, Floats]:
    """Find chips whose label is probably not theirs, the likeliest mistake first.

    A class is confident of a chip if it gives it at least the probability that it gives the chips
    of its own label on average. A chip is suspected if another class than its label is confident
    of it; of several the likeliest is suggested. Suspects are sorted by how much less the label is
    given than the suggestion.

    The classifier must not have learnt from these chips: those of the calibration and validation
    splits it has not.

    Returns:
        The rows, what class is suggested, and the probability of the label less that of the
        suggestion, -1 to 0.

    Source: Northcutt, Jiang and Chuang 2021, "Confident learning", the confident joint and its
    normalised margin.
    """
    p = judged.probabilities
    own = judged.given_to_label
    counts = np.bincount(judged.y_true, minlength=len(judged.labels))[: judged.n_classes]
    sums = np.bincount(judged.y_true, weights=own, minlength=len(judged.labels))
    usual = np.full(judged.n_classes, np.inf)
    usual[counts > 0] = sums[: judged.n_classes][counts > 0] / counts[counts > 0]
    confident = np.where(p >= usual, p, -1.0)
    suggested = confident.argmax(axis=1)
    likely = confident[np.arange(judged.n), suggested]
    rows = np.flatnonzero((likely > own) & (suggested != judged.y_true))
    margin = own[rows] - likely[rows]
    order = np.lexsort((rows, margin))
    return rows[order], suggested[rows[order]], margin[order]


def table(judged: Judged, predictions: pa.Table, splits: pa.ChunkedArray) -> pd.DataFrame:
    """Give the suspects with their places, the likeliest mistake first.

    Args:
        judged: of *predictions*.
        predictions: schemas.PREDICTIONS.
        splits: the split of each row.

    Returns:
        `chip_id` in hexadecimal, `key`, `row`, `col`, `split`, `label`, `suggested`,
        `label_probability` and `suggested_probability`.
    """
    rows, suggested, _ = suspects(judged)
    taken = predictions.append_column("split", splits).take(pa.array(rows, pa.int64()))
    return pd.DataFrame(
        {
            "chip_id": [chip_id.hex() for chip_id in taken["chip_id"].to_pylist()],
            **{name: taken[name].to_pylist() for name in ("key", "row", "col", "split", "label")},
            "suggested": [judged.classes[number] for number in suggested],
            "label_probability": judged.given_to_label[rows],
            "suggested_probability": judged.probabilities[rows, suggested],
        }
    )
