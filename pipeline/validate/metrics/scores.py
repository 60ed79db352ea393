"""How often, how evenly and how surely the classifier predicts the labels that people gave.

A label that the classifier has never seen is always predicted wrongly, and counts as wrong.

Sources: scikit-learn's metrics, with which these agree; Matthews correlation for many classes:
Gorodkin 2004, eq. 8; Brier score for many classes: Brier 1950, eq. 2; Zhang and Zhou 2014, "A
review on multi-label learning algorithms", for what each multi-label metric means.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from pipeline.validate.evaluation import Evaluation, Floats, Indices
from pipeline.validate.metrics import Metric, ratio
from pipeline.validate.metrics._bootstrap import label_counts, sum_by_group

LEAST_PROBABILITY = 1e-15
"""A probability of 0 for the label would make log loss infinite; scikit-learn's former bound."""

WORST_LOG_LOSS = -float(np.log(LEAST_PROBABILITY))

TOPS = (3, 5)

SHARE = (0.0, 1.0)
CORRELATION = (-1.0, 1.0)

METRICS = {
    "accuracy": Metric(
        "share of chips whose label was predicted",
        "share of chips for which exactly their labels were predicted",
        "higher",
        SHARE,
    ),
    "balanced_accuracy": Metric(
        "mean over labels of the share of the label's chips for which it was predicted",
        "mean over labels of the mean of two shares: correct among the chips with the label, and "
        "correct among the chips without it",
        "higher",
        SHARE,
        over_labels=True,
    ),
    "macro_f1": Metric(
        "mean over labels of F1, all labels counting alike", "", "higher", SHARE, over_labels=True
    ),
    "weighted_f1": Metric(
        "mean over labels of F1, weighted by the label's chips", "", "higher", SHARE
    ),
    "matthews_correlation": Metric(
        "correlation of predictions and labels; 0 is chance", "", "higher", CORRELATION
    ),
    "cohen_kappa": Metric(
        "agreement beyond what the label counts alone would give; 0 is chance",
        "",
        "higher",
        CORRELATION,
    ),
    "top_3_accuracy": Metric(
        "share of chips whose label is among the three likeliest classes", "", "higher", SHARE
    ),
    "top_5_accuracy": Metric(
        "share of chips whose label is among the five likeliest classes", "", "higher", SHARE
    ),
    "mean_reciprocal_rank": Metric(
        "mean of 1 / the rank of the label among the classes, likeliest first", "", "higher", SHARE
    ),
    "samples_f1": Metric("mean over chips of the F1 of its labels", "", "higher", SHARE),
    "micro_f1": Metric("F1 over all labels of all chips together", "", "higher", SHARE),
    "jaccard": Metric(
        "mean over chips of the labels in both sets as a share of those in either",
        "",
        "higher",
        SHARE,
    ),
    "hamming_loss": Metric(
        "share of wrong decisions, one for each chip and label", "", "lower", SHARE
    ),
    "log_loss": Metric(
        "mean negative logarithm of the probability of the label, over chips with known labels",
        "mean negative logarithm of the probability of what is true, over chips and labels",
        "lower",
        (0.0, WORST_LOG_LOSS),
    ),
    "brier": Metric(
        "mean squared distance of the probabilities from the truth, 0 to 2",
        "mean squared distance of the probability from the truth, over chips and labels",
        "lower",
        (0.0, 2.0),
    ),
    "mean_average_precision": Metric(
        "mean over labels of the area under precision by recall", "", "higher", SHARE
    ),
    "baseline_accuracy": Metric(
        "accuracy of always predicting the commonest label of these chips",
        "accuracy of always predicting the commonest set of labels of these chips",
        None,
        SHARE,
    ),
    "n_validation": Metric("chips evaluated"),
    "n_groups": Metric("groups that those chips come from"),
    "n_classes": Metric("labels that the classifier knows"),
    "n_unseen": Metric("chips with a label that the classifier never saw; each counts as wrong"),
}


def sums(evaluation: Evaluation) -> sparse.csr_array:
    """Add up over each group what every score needs: float64 [n_groups, 3 n_labels + …].

    Hits, true and predicted labels by label; then `_columns`.
    """
    columns = _columns(evaluation)
    columns_in_order = [columns[name] for name in column_names(evaluation)]
    values = sum_by_group(evaluation.groups, evaluation.n_groups, columns_in_order)
    return sparse.hstack([*label_counts(evaluation), values], format="csr")


def column_names(evaluation: Evaluation) -> list[str]:
    """Return the names of `_columns`, in the order of their sums."""
    if evaluation.is_multilabel:
        own = ["log_loss", "brier", "f1", "jaccard"]
    else:
        own = ["log_loss", "brier", "reciprocal_rank", *(f"top_{k}" for k in _tops(evaluation))]
    return ["n", "correct", "known", *own]


def _columns(evaluation: Evaluation) -> dict[str, Floats]:
    """Return a value for each chip, float64 [n], by the name of what their sum is used for."""
    columns: dict[str, Floats] = {
        "n": np.ones(evaluation.n),
        "correct": evaluation.correct.astype(np.float64),
        "known": evaluation.known.astype(np.float64),
    }
    if evaluation.is_multilabel:
        truth = evaluation.truth[:, : evaluation.n_classes]
        p = evaluation.probabilities
        both, sizes = _set_sizes(evaluation)
        return columns | {
            "log_loss": log_losses(evaluation, evaluation.classes),
            "brier": np.square(p - truth).mean(axis=1),
            # A chip without labels for which none was predicted has F1 and Jaccard 1.
            "f1": ratio(2 * both, sizes, 1.0),
            "jaccard": ratio(both, sizes - both, 1.0),
        }
    own = evaluation.label_probability
    squares = np.einsum("ij,ij->i", evaluation.probabilities, evaluation.probabilities)
    rank = _rank(evaluation)
    columns |= {
        "log_loss": log_losses(evaluation, evaluation.classes),
        # The sum of squares of (p − y), multiplied out; below 0 only by rounding.
        "brier": np.maximum(squares - 2 * own + 1, 0.0),
        "reciprocal_rank": np.where(evaluation.known, 1 / (1.0 + rank), 0.0),
    }
    for k in _tops(evaluation):
        columns[f"top_{k}"] = ((rank < k) & evaluation.known).astype(np.float64)
    return columns


def log_losses(evaluation: Evaluation, classes: Sequence[str]) -> Floats:
    """Return the log loss of each chip, float64 [n]; 0 where the label is not known.

    For multi-label data, the mean over *classes*, which the classifier must know.
    """
    if not evaluation.is_multilabel:
        likelihood = np.clip(evaluation.label_probability, LEAST_PROBABILITY, 1.0)
        return np.where(evaluation.known, -np.log(likelihood), 0.0)
    place = {name: at for at, name in enumerate(evaluation.classes)}
    own = [place[name] for name in classes]
    p, truth = evaluation.probabilities[:, own], evaluation.truth[:, own]
    likelihood = np.maximum(np.where(truth, p, 1 - p), LEAST_PROBABILITY)
    return np.asarray(-np.log(likelihood).mean(axis=1))


def _tops(evaluation: Evaluation) -> list[int]:
    """Return the k of the top-k accuracies that not every classifier reaches."""
    return [k for k in TOPS if evaluation.n_classes > k]


def _set_sizes(evaluation: Evaluation) -> tuple[Floats, Floats]:
    """Return the number of hits, and of true and predicted labels together, of each chip."""
    hits, true, predicted = (
        np.bincount(pairs.chips, minlength=evaluation.n).astype(np.float64)
        for pairs in (evaluation.hits, evaluation.true, evaluation.predicted)
    )
    return hits, true + predicted


def _rank(evaluation: Evaluation) -> Indices:
    """Return how many classes are likelier than each chip's label, int64 [n].

    Of equal probabilities the earlier class comes first, as in argmax.
    """
    own = evaluation.label_probability[:, None]
    p = evaluation.probabilities
    earlier = np.arange(evaluation.n_classes) < evaluation.true.labels[:, None]
    return np.asarray(((p > own) | ((p == own) & earlier)).sum(axis=1), np.int64)


def from_sums(evaluation: Evaluation, totals: Floats) -> dict[str, Floats]:
    """Return every score of each round from its *totals*, the columns of `sums`.

    - Means over labels are over the labels that occur; F1 over those that occur or were predicted.
    - The Matthews correlation and kappa are 0 where they are undefined.
    - `top_3_accuracy` needs more than 3 classes, `top_5_accuracy` more than 5: any classifier would
      reach 1.
    - Single-label `log_loss` is over the chips with known labels, since one label never seen would
      outweigh everything else; without such a chip it is the worst possible, 34.5.
    - Multi-label `log_loss` and `brier` are over the labels that the classifier knows.
    """
    n_labels = len(evaluation.labels)
    hits, true, predicted, rest = np.split(totals, [n_labels, 2 * n_labels, 3 * n_labels], axis=1)
    column = dict(zip(column_names(evaluation), rest.T, strict=True))
    n = column["n"]
    f1 = ratio(2 * hits, true + predicted)
    counted = (true + predicted > 0).sum(axis=1)
    empty = 1.0 if evaluation.is_multilabel else 0.0
    scores = {
        "accuracy": column["correct"] / n,
        "balanced_accuracy": _balanced(hits, true, predicted, n, evaluation),
        "macro_f1": ratio(f1.sum(axis=1), counted, empty),
        "weighted_f1": np.where(
            counted > 0, ratio((f1 * true).sum(axis=1), true.sum(axis=1)), empty
        ),
        "brier": column["brier"] / n,
    }
    if evaluation.is_multilabel:
        both, sizes = hits.sum(axis=1), (true + predicted).sum(axis=1)
        return scores | {
            "samples_f1": column["f1"] / n,
            "micro_f1": ratio(2 * both, sizes, 1.0),
            "jaccard": column["jaccard"] / n,
            "hamming_loss": (sizes - 2 * both) / (n * n_labels),
            "log_loss": column["log_loss"] / n,
        }
    return scores | {
        **_beyond_chance(hits, true, predicted),
        "log_loss": ratio(column["log_loss"], column["known"], WORST_LOG_LOSS),
        "mean_reciprocal_rank": column["reciprocal_rank"] / n,
        **{f"top_{k}_accuracy": column[f"top_{k}"] / n for k in _tops(evaluation)},
    }


def _balanced(
    hits: Floats, true: Floats, predicted: Floats, n: Floats, evaluation: Evaluation
) -> Floats:
    """Return the mean of recall over the labels that occur.

    For multi-label data, the mean of recall and specificity; recall alone for a label that every
    chip has.
    """
    recall = ratio(hits, true)
    if evaluation.is_multilabel:
        without = n[:, None] - true
        specificity = ratio(without - predicted + hits, without)
        recall = np.where(without > 0, (recall + specificity) / 2, recall)
    occurs = true > 0
    return ratio((recall * occurs).sum(axis=1), occurs.sum(axis=1))


def _beyond_chance(hits: Floats, true: Floats, predicted: Floats) -> dict[str, Floats]:
    n, correct = true.sum(axis=1), hits.sum(axis=1)
    by_chance = (true * predicted).sum(axis=1)
    spread = (n**2 - (true**2).sum(axis=1)) * (n**2 - (predicted**2).sum(axis=1))
    beyond = correct * n - by_chance
    return {
        "matthews_correlation": ratio(beyond, np.sqrt(spread)),
        "cohen_kappa": ratio(beyond, n**2 - by_chance),
    }


def figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures that have no interval: the baseline and counts."""
    counts = np.unique(evaluation.label_sets, return_counts=True)[1]
    found = {
        "baseline_accuracy": float(counts.max() / evaluation.n),
        "n_validation": evaluation.n,
        "n_groups": evaluation.n_groups,
        "n_classes": evaluation.n_classes,
        "n_unseen": int(np.count_nonzero(~evaluation.known)),
    }
    if evaluation.is_multilabel:
        found["mean_average_precision"] = _mean_average_precision(evaluation)
    return found


def _mean_average_precision(evaluation: Evaluation) -> float:
    from sklearn.metrics import average_precision_score

    truth, p = evaluation.truth, evaluation.probabilities
    occurring = np.flatnonzero(truth[:, : evaluation.n_classes].any(axis=0))
    scores = [average_precision_score(truth[:, at], p[:, at]) for at in occurring]
    return float(np.mean(scores)) if scores else 0.0
