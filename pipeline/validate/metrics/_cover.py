"""Cover: the share of an image's chips that each class has, as counted and as answered.

Point counts are how ecologists measure the cover of a reef: what they publish is not whether each
point is right, but whether the shares are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics._bootstrap import defined, resample
from pipeline.validate.metrics._judged import Floats, Judged
from pipeline.validate.metrics._several import Either

JUDGING = ("bias", "rmse", "r2")
NO_SPREAD = 1e-12
"""A variance of shares that is nothing but rounding."""


def cover(judged: Either, validate: ValidateParams) -> pd.DataFrame:
    """Give, for each label, how far the answers' cover of an image is from the true one.

    An image counts once, however many chips it has. R² is of the line of equality, so that a bias
    lowers it; it is NaN where the true cover is the same in every image.

    Returns:
        `label`, `images`, `cover` (mean true share), `answered` (mean answered share), `bias`
        (answered less true), `rmse`, `r2`, each of these three with its 95 % interval (`bias_low`,
        `bias_high`, …) from resampling groups, NaN where there is but one; the label of the most
        cover first.

    Source: Beijbom et al. 2015, "Towards automated annotation of benthic survey images".
    """
    true, answered = shares(judged)
    sums = [true, answered, np.square(true), np.square(answered - true)]
    of_images = sparse.csr_array(np.concatenate([np.ones((len(true), 1)), *sums], axis=1))
    found = _of_sums(np.asarray(of_images.sum(axis=0))[None, :])
    columns = {name: values[0] for name, values in found.items()}
    intervals = {}
    if judged.n_groups > 1:
        totals = resample(_added(judged, of_images), validate.bootstrap_rounds, validate.seed)
        for name, drawn in _of_sums(totals).items():
            intervals[name] = defined(drawn, np.isfinite(columns[name]))
    table = pd.DataFrame({"label": judged.labels, "images": len(true)})
    for name, values in columns.items():
        table[name] = values
        if name in JUDGING:
            table[f"{name}_low"], table[f"{name}_high"] = intervals.get(name, (np.nan, np.nan))
    return table.sort_values(["cover", "label"], ascending=[False, True], ignore_index=True)


def _added(judged: Either, of_images: sparse.csr_array) -> sparse.csr_array:
    """Add up the rows of images over each group: float64 [n_groups, k]."""
    images, first = np.unique(judged.images, return_index=True)
    places = (judged.groups[first], images)
    shape = (judged.n_groups, of_images.shape[0])
    return (
        sparse.coo_array((np.ones(len(images)), places), shape=shape).tocsr() @ of_images
    ).tocsr()


def _of_sums(totals: Floats) -> dict[str, Floats]:
    """Give each figure of every label, float64 [rounds, n_labels], from sums over images."""
    n = totals[:, :1]
    true, answered, squares, errors = np.split(totals[:, 1:], 4, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no image
        spread = squares - np.square(true) / n
        return {
            "cover": true / n,
            "answered": answered / n,
            "bias": (answered - true) / n,
            "rmse": np.sqrt(errors / n),
            "r2": np.where(spread > NO_SPREAD * n, 1 - errors / spread, np.nan),
        }


def shares(judged: Either) -> tuple[Floats, Floats]:
    """Give the true and the answered share of each label in each image: [n_images, n_labels]."""
    n_images, n_labels = int(judged.images.max()) + 1, len(judged.labels)
    found = []
    if not isinstance(judged, Judged):
        whole = np.bincount(judged.images)[:, None]
        for flags in (judged.truth, judged.answered):
            having = [np.bincount(judged.images, weights=own) for own in flags.T]
            found.append(np.stack(having, axis=1) / whole)
        return found[0], found[1]
    for y in (judged.y_true, judged.y_pred):
        counts = np.bincount(judged.images * n_labels + y, minlength=n_images * n_labels)
        chips = counts.reshape(n_images, n_labels).astype(np.float64)
        found.append(chips / chips.sum(axis=1, keepdims=True))
    return found[0], found[1]
