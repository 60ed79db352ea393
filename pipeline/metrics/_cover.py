"""Cover: the share of an image's chips that each class has, as counted and as answered.

Point counts are how ecologists measure the cover of a reef: what they publish is not whether each
point is right, but whether the shares are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.metrics._judged import Floats, Judged
from pipeline.metrics._several import Either


def cover(judged: Either) -> pd.DataFrame:
    """Give, for each label, how far the answers' cover of an image is from the true one.

    An image counts once, however many chips it has. R² is of the line of equality, so that a bias
    lowers it; it is NaN where the true cover is the same in every image.

    Returns:
        `label`, `images`, `cover` (mean true share), `answered` (mean answered share), `bias`
        (answered less true), `rmse`, `r2`; the label of the most cover first.

    Source: Beijbom et al. 2015, "Towards automated annotation of benthic survey images".
    """
    true, answered = shares(judged)
    error = answered - true
    spread = np.square(true - true.mean(axis=0)).sum(axis=0)
    varies = np.ptp(true, axis=0) > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = 1 - np.square(error).sum(axis=0) / spread
    table = pd.DataFrame(
        {
            "label": judged.labels,
            "images": len(true),
            "cover": true.mean(axis=0),
            "answered": answered.mean(axis=0),
            "bias": error.mean(axis=0),
            "rmse": np.sqrt(np.square(error).mean(axis=0)),
            "r2": np.where(varies, r2, np.nan),
        }
    )
    return table.sort_values(["cover", "label"], ascending=[False, True], ignore_index=True)


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
