"""Cover: the share of an image's chips that each label has, by labels and by predictions.

Ecologists measure the cover of a reef by counting points: what they publish is not whether each
point is correct, but whether the shares are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics._intervals import effective_groups, interval, spreads
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 60

ERRORS = ("bias", "rmse", "r2")
LEAST = {"bias": -1.0, "rmse": 0.0}
"""Their least possible values; the greatest is 1."""

NO_VARIANCE = 1e-12
"""A variance of shares that is only rounding."""


def analyse(data: ValidationData) -> Result:
    """Compare the cover by predictions with the cover by labels, image by image."""
    covers = table(data.evaluation)
    columns: dict[str, Kind] = {"Label": "text", "Cover": "share", "Predicted cover": "share"}
    columns |= {"Bias": "points", "RMSE": "percent", "R²": "r2"}
    rows = [
        [
            row["label"],
            row["cover"],
            row["predicted_cover"],
            *(Estimate(row[e], row[f"{e}_low"], row[f"{e}_high"]) for e in ERRORS),
        ]
        for row in covers.to_dict("records")
    ]
    caption = (
        f"Means over {pluralize(int(covers['images'].iloc[0]), 'images')}, by labels and by "
        "predictions. Bias and root-mean-square error (RMSE) are of one image's share, in "
        "percentage points; R² is 1 if every image's share is right, and a dash if all images "
        "have the same."
    )
    if data.evaluation.n_groups > 1:
        caption += " Small: the 95\u00a0% interval, from how groups differ."
    block = Table("Cover by label", columns, rows, caption, order={"Cover": "descending"})
    section = ReportSection(
        "cover", "Cover: the share of an image that each label has", [block], "Cover"
    )
    return Result(tables={"cover": covers}, sections=[section])


def table(evaluation: Evaluation) -> pd.DataFrame:
    """Return, for each label, how far the predicted cover of an image is from the true one.

    An image counts once, however many chips it has. R² is that of the line of equality, so that a
    bias lowers it; it is NaN if the true cover is the same in every image.

    Returns:
        `label`, `images`, `cover` (mean true share), `predicted_cover` (mean predicted share),
        `bias` (predicted less true), `rmse` and `r2`, each of these three with its 95 % interval
        (`bias_low`, `bias_high`, …) from how groups differ, NaN if there is only one; the label
        with the most cover first.

    Source: Beijbom et al. 2015, "Towards automated annotation of benthic survey images".
    """
    true, predicted = shares(evaluation)
    sums = [true, predicted, np.square(true), np.square(predicted - true)]
    by_image = sparse.csr_array(np.concatenate([np.ones((len(true), 1)), *sums], axis=1))
    total = _from_sums(np.asarray(by_image.sum(axis=0))[None, :])
    columns = {name: values[0] for name, values in total.items()}
    by_group = _by_group(evaluation, by_image)
    n_groups, spread = effective_groups(by_group)[0], spreads(by_group, _from_sums)
    covers = pd.DataFrame({"label": evaluation.labels, "images": len(true)})
    for name, values in columns.items():
        covers[name] = values
        if name in ERRORS:
            low, high = interval(values, spread[name], n_groups)
            covers[f"{name}_low"] = np.maximum(low, LEAST.get(name, -np.inf))
            covers[f"{name}_high"] = np.minimum(high, 1.0)
    return covers.sort_values(["cover", "label"], ascending=[False, True], ignore_index=True)


def _by_group(evaluation: Evaluation, by_image: sparse.csr_array) -> sparse.csr_array:
    """Add up the rows of the images of each group: float64 [n_groups, k].

    An image whose chips are of several groups counts in each by its share of the chips.
    """
    shares = 1 / np.bincount(evaluation.images)[evaluation.images]
    places = (evaluation.groups, evaluation.images)
    shape = (evaluation.n_groups, by_image.shape[0])
    return (sparse.coo_array((shares, places), shape=shape).tocsr() @ by_image).tocsr()


def _from_sums(totals: Floats) -> dict[str, Floats]:
    """Return each column of `table`, float64 [rounds, n_labels], from sums over images."""
    n = totals[:, :1]
    true, predicted, squares, errors = np.split(totals[:, 1:], 4, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample may have no image
        variance = squares - np.square(true) / n
        return {
            "cover": true / n,
            "predicted_cover": predicted / n,
            "bias": (predicted - true) / n,
            "rmse": np.sqrt(errors / n),
            "r2": np.where(variance > NO_VARIANCE * n, 1 - errors / variance, np.nan),
        }


def shares(evaluation: Evaluation) -> tuple[Floats, Floats]:
    """Return the true and the predicted share of each label in each image, [n_images, n_labels]."""
    n_images, n_labels = int(evaluation.images.max()) + 1, len(evaluation.labels)
    n_chips = np.bincount(evaluation.images)[:, None]
    parts = []
    for pairs in (evaluation.true, evaluation.predicted):
        cells = evaluation.images[pairs.chips] * n_labels + pairs.labels
        counts = np.bincount(cells, minlength=n_images * n_labels)
        parts.append(counts.reshape(n_images, n_labels) / n_chips)
    return parts[0], parts[1]
