"""How often, how evenly and how surely the classifier gives chips the label that people gave.

A label that the classifier has never seen is always answered wrongly, and counts as that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import metrics as sk

from pipeline.validate.metrics import Judged
from pipeline.validate.metrics._bootstrap import label_counts, summed
from pipeline.validate.metrics._judged import Floats

LEAST_PROBABILITY = 1e-15
"""A probability of 0 for the true label would make log loss infinite; scikit-learn's old bound."""

WORST_LOG_LOSS = -float(np.log(LEAST_PROBABILITY))

TOPS = (3, 5)

BETTER = {
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "macro_f1": "higher",
    "weighted_f1": "higher",
    "matthews_correlation": "higher",
    "cohen_kappa": "higher",
    "top_3_accuracy": "higher",
    "top_5_accuracy": "higher",
    "mean_reciprocal_rank": "higher",
    "log_loss": "lower",
    "brier": "lower",
}

RANGE = {
    "accuracy": (0.0, 1.0),
    "balanced_accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "weighted_f1": (0.0, 1.0),
    "matthews_correlation": (-1.0, 1.0),
    "cohen_kappa": (-1.0, 1.0),
    "top_3_accuracy": (0.0, 1.0),
    "top_5_accuracy": (0.0, 1.0),
    "mean_reciprocal_rank": (0.0, 1.0),
    "log_loss": (0.0, WORST_LOG_LOSS),
    "brier": (0.0, 2.0),
    "baseline_accuracy": (0.0, 1.0),
}

MEANING = {
    "accuracy": "share of chips that were given their label",
    "balanced_accuracy": "mean over labels of the share of the label's chips that were given it",
    "macro_f1": "mean over labels of F1, every label counting the same",
    "weighted_f1": "mean over labels of F1, weighted by the label's chips",
    "matthews_correlation": "correlation of answers and labels; 0 is chance",
    "cohen_kappa": "agreement beyond what the label counts alone would give; 0 is chance",
    "top_3_accuracy": "share of chips whose label is among the three likeliest classes",
    "top_5_accuracy": "share of chips whose label is among the five likeliest classes",
    "mean_reciprocal_rank": "mean of 1 / the place of the label among the classes, likeliest first",
    "log_loss": "mean of −ln of the probability given to the label, over chips of known labels",
    "brier": "mean squared distance of the probabilities from the truth, 0 to 2",
    "baseline_accuracy": "accuracy of always answering the commonest label of these chips",
    "n_validation": "chips judged",
    "n_groups": "groups that those chips come from",
    "n_classes": "classes that the classifier knows",
    "n_unseen": "chips whose label the classifier never saw; each counts as wrong",
}


def compute(judged: Judged) -> dict[str, float]:
    """Give every score of *judged*.

    - Means over labels are over the labels that occur: for balanced accuracy among the true ones,
      for macro F1 among the true and the predicted, as scikit-learn has it.
    - The Matthews correlation and kappa are 0 where they are undefined (one label alone).
    - `top_3_accuracy` is left out for 3 classes or fewer, and `top_5_accuracy` for 5 or fewer: any
      classifier would reach 1.
    - `log_loss` is over the chips of known labels, since one label never seen would outweigh
      everything else; with no such chip it is the worst there is, 34.5. `n_unseen` stands beside.
    - `brier` is over all chips: the classifier gives a label it never saw the probability 0.

    Source: scikit-learn; Matthews correlation for many classes: Gorodkin 2004, eq. 8; Brier score
    for many classes: Brier 1950, eq. 2.
    """
    return {
        **_agreement(judged),
        **{f"top_{k}_accuracy": float(hits.mean()) for k, hits in _hits(judged).items()},
        "mean_reciprocal_rank": float(_reciprocal_ranks(judged).mean()),
        "log_loss": float(_log_losses(judged).sum() / judged.known.sum())
        if judged.known.any()
        else WORST_LOG_LOSS,
        "brier": float(_briers(judged).mean()),
        "baseline_accuracy": float(np.bincount(judged.y_true).max() / judged.n),
        "n_validation": judged.n,
        "n_groups": judged.n_groups,
        "n_classes": judged.n_classes,
        "n_unseen": int(np.count_nonzero(~judged.known)),
    }


def _agreement(judged: Judged) -> dict[str, float]:
    true, answered = judged.y_true, judged.y_pred
    occurring = np.unique(true)
    alone = len(np.union1d(true, answered)) == 1
    # balanced_accuracy_score is this recall, but warns of answers that are no chip's label.
    balanced = sk.recall_score(true, answered, labels=occurring, average="macro", zero_division=0)
    return {
        "accuracy": float(sk.accuracy_score(true, answered)),
        "balanced_accuracy": float(balanced),
        "macro_f1": float(sk.f1_score(true, answered, average="macro", zero_division=0)),
        "weighted_f1": float(sk.f1_score(true, answered, average="weighted", zero_division=0)),
        "matthews_correlation": 0.0 if alone else float(sk.matthews_corrcoef(true, answered)),
        "cohen_kappa": 0.0 if alone else float(sk.cohen_kappa_score(true, answered)),
    }


def _hits(judged: Judged) -> dict[int, NDArray[np.bool_]]:
    """Say of each chip whether its label is among the k likeliest classes: bool [n] for each k.

    Of equal probabilities the earlier class stands first, as in argmax.
    """
    wanted = [k for k in TOPS if judged.n_classes > k]
    return {k: (judged.rank < k) & judged.known for k in wanted}


def _reciprocal_ranks(judged: Judged) -> Floats:
    """Give 1 / the place of each chip's label, 0 for one that is not known: float64 [n]."""
    return np.where(judged.known, 1 / (1.0 + judged.rank), 0.0)


def _log_losses(judged: Judged) -> Floats:
    """Give each chip's −ln p of its own label: float64 [n]; 0 where the label is not known."""
    given = np.clip(judged.given_to_label, LEAST_PROBABILITY, 1.0)
    return np.where(judged.known, -np.log(given), 0.0)


def _briers(judged: Judged) -> Floats:
    squares: Floats = np.einsum("ij,ij->i", judged.probabilities, judged.probabilities)
    # The sum of squares of (p − y), multiplied out; never below 0 but by rounding.
    return np.asarray(np.maximum(squares - 2 * judged.given_to_label + 1, 0.0))


def sums(judged: Judged) -> sparse.csr_array:
    """Add up over each group what every score needs: float64 [n_groups, 3 n_labels + …].

    Hits, chips and answers a label (the confusion matrix's diagonal and margins, which are all
    that these scores read of it), then known chips, log losses, Brier scores and top-k hits.
    """
    values = [judged.known, _log_losses(judged), _briers(judged), _reciprocal_ranks(judged)]
    parts = [*label_counts(judged), summed(judged, [*values, *_hits(judged).values()])]
    return sparse.hstack(parts, format="csr")


def from_sums(judged: Judged, totals: Floats) -> dict[str, Floats]:
    """Give every score of each round from its *totals*, the columns of `sums`."""
    n_labels = len(judged.labels)
    right, chips, answers, rest = np.split(totals, [n_labels, 2 * n_labels, 3 * n_labels], axis=1)
    n = chips.sum(axis=1)
    known, log_losses, briers, reciprocal_ranks, *hits = rest.T
    tops = [k for k in TOPS if judged.n_classes > k]
    return {
        "accuracy": right.sum(axis=1) / n,
        **_means(right, chips, answers),
        **_beyond_chance(right, chips, answers),
        **{f"top_{k}_accuracy": hit / n for k, hit in zip(tops, hits, strict=True)},
        "log_loss": _ratio(log_losses, known, WORST_LOG_LOSS),
        "brier": briers / n,
        "mean_reciprocal_rank": reciprocal_ranks / n,
    }


def _means(right: Floats, chips: Floats, answers: Floats) -> dict[str, Floats]:
    recall = _ratio(right, chips)
    f1 = _ratio(2 * right, chips + answers)
    return {
        "balanced_accuracy": recall.sum(axis=1) / (chips > 0).sum(axis=1),
        "macro_f1": f1.sum(axis=1) / (chips + answers > 0).sum(axis=1),
        "weighted_f1": (f1 * chips).sum(axis=1) / chips.sum(axis=1),
    }


def _beyond_chance(right: Floats, chips: Floats, answers: Floats) -> dict[str, Floats]:
    n, hits = chips.sum(axis=1), right.sum(axis=1)
    by_chance = (chips * answers).sum(axis=1)
    spread = (n**2 - (chips**2).sum(axis=1)) * (n**2 - (answers**2).sum(axis=1))
    beyond = hits * n - by_chance
    return {
        "matthews_correlation": _ratio(beyond, np.sqrt(spread)),
        "cohen_kappa": _ratio(beyond, n**2 - by_chance),
    }


def _ratio(above: Floats, below: Floats, undefined: float = 0.0) -> Floats:
    """Divide, and give *undefined* where there is nothing to divide by."""
    out = np.full(np.shape(above), undefined, dtype=np.float64)
    return np.divide(above, below, out=out, where=below > 0)
