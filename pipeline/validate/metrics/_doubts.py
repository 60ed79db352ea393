"""Labels that are likely to be wrong, for a person to look at again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.core import label_sets
from pipeline.validate.metrics._judged import Floats, Indices, Judged
from pipeline.validate.metrics._several import Either, JudgedSeveral


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


def suspects_of_several(judged: JudgedSeveral) -> tuple[Indices, Indices, Floats]:
    """Find chips that probably lack a label or have one too many, the likeliest mistake first.

    Of each class a chip either has it or not: `suspects` of these two, and of each chip the
    likeliest mistake.

    Returns:
        The rows, which class is to be added or taken away, and the probability of what was said of
        it less that of the opposite, -1 to 0.

    Source: Thyagarajan, Snorrason, Northcutt and Mueller 2022, "Identifying incorrect annotations
    in multi-label classification data", for one class at a time.
    """
    has = judged.truth[:, : judged.n_classes]
    own = np.where(has, judged.probabilities, 1 - judged.probabilities)
    usual = np.stack([_usual(own, ~has), _usual(own, has)])  # of lacking it, of having it
    other = np.where(has, usual[0], usual[1])
    margin = np.where((1 - own >= other) & (1 - own > own), 2 * own - 1, 0.0)
    worst = margin.argmin(axis=1)
    least = margin[np.arange(judged.n), worst]
    rows = np.flatnonzero(least < 0)
    order = np.lexsort((rows, least[rows]))
    return rows[order], worst[rows[order]], least[rows[order]]


def _usual(own: Floats, where: np.ndarray) -> Floats:
    """Give the mean of each column of *own* over *where*; infinite where there is nothing."""
    count = where.sum(axis=0)
    sums = (own * where).sum(axis=0)
    found: Floats = np.divide(sums, count, out=np.full(len(count), np.inf), where=count > 0)
    return found


def table(
    judged: Either, predictions: pa.Table, splits: pa.ChunkedArray, separator: str | None = None
) -> pd.DataFrame:
    """Give the suspects with their places, the likeliest mistake first.

    Args:
        judged: of *predictions*.
        predictions: schemas.PREDICTIONS.
        splits: the split of each row.
        separator: between a chip's labels, where it may have several.

    Returns:
        `chip_id` in hexadecimal, `key`, `row`, `col`, `split`, `label`, `suggested`,
        `label_probability` and `suggested_probability`; of several labels the probabilities are of
        the one that is to be added or taken away.
    """
    if isinstance(judged, Judged):
        rows, numbers, _ = suspects(judged)
        suggested = [judged.classes[number] for number in numbers]
        given, instead = judged.given_to_label[rows], judged.probabilities[rows, numbers]
    else:
        rows, numbers, margin = suspects_of_several(judged)
        of = zip(rows.tolist(), numbers.tolist(), strict=True)
        texts = predictions["label"].to_pylist()
        suggested = [
            _toggled(texts[row], judged.classes[number], separator or "") for row, number in of
        ]
        given, instead = (1 + margin) / 2, (1 - margin) / 2
    taken = predictions.append_column("split", splits).take(pa.array(rows, pa.int64()))
    return pd.DataFrame(
        {
            "chip_id": [chip_id.hex() for chip_id in taken["chip_id"].to_pylist()],
            **{name: taken[name].to_pylist() for name in ("key", "row", "col", "split", "label")},
            "suggested": suggested,
            "label_probability": given,
            "suggested_probability": instead,
        }
    )


def _toggled(text: str, label: str, separator: str) -> str:
    """Give the labels of *text* without *label*, or with it where it is not among them."""
    return label_sets.join({*label_sets.split(text, separator)} ^ {label}, separator)
