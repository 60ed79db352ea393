"""How good the classifier is where a chip may have several labels, or none.

A label that the classifier has never seen is never answered, and counts as missed.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from sklearn import metrics as sk

from pipeline.validate.metrics import calibration
from pipeline.validate.metrics._bootstrap import summed
from pipeline.validate.metrics._judged import Floats, Indices
from pipeline.validate.metrics._several import JudgedSeveral
from pipeline.validate.metrics.scores import LEAST_PROBABILITY, WORST_LOG_LOSS

BETTER = {
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "samples_f1": "higher",
    "macro_f1": "higher",
    "micro_f1": "higher",
    "weighted_f1": "higher",
    "jaccard": "higher",
    "mean_average_precision": "higher",
    "hamming_loss": "lower",
    "log_loss": "lower",
    "brier": "lower",
    "ece": "lower",
}

RANGE = {
    **dict.fromkeys([*BETTER, "baseline_accuracy"], (0.0, 1.0)),
    "log_loss": (0.0, WORST_LOG_LOSS),
}

MEANING = {
    "accuracy": "share of chips that were given exactly their labels",
    "balanced_accuracy": "mean over labels of the mean of the shares that are right of the chips "
    "with it and of those without it",
    "samples_f1": "mean over chips of the F1 of its labels",
    "macro_f1": "mean over labels of F1, every label counting the same",
    "micro_f1": "F1 over all labels of all chips together",
    "weighted_f1": "mean over labels of F1, weighted by the label's chips",
    "jaccard": "mean over chips of the share of labels that are in both, of those in either",
    "mean_average_precision": "mean over labels of the area under precision by recall",
    "hamming_loss": "share of wrong decisions, one a chip and label",
    "log_loss": "mean of −ln of the probability given to what is so, over chips and labels",
    "brier": "mean squared distance of the probability from what is so, over chips and labels",
    "ece": "mean distance between a label's probability and how often it is so, in bins of equally "
    "many chips and labels",
    "baseline_accuracy": "accuracy of always answering the commonest set of labels of these chips",
    "n_validation": "chips judged",
    "n_groups": "groups that those chips come from",
    "n_classes": "labels that the classifier knows",
    "n_unseen": "chips with a label that the classifier never saw; each counts as missed",
}


def compute(judged: JudgedSeveral) -> dict[str, float]:
    """Give every score of *judged*.

    - Means over labels are over those that occur; for F1 over those that occur or were answered.
    - A chip without labels that was given none has F1 and Jaccard 1.
    - `log_loss`, `brier` and `ece` are over the labels that the classifier knows.

    Source: scikit-learn's multi-label metrics; Zhang and Zhou 2014, "A review on multi-label
    learning algorithms", for what each of them tells.
    """
    # Of one label alone scikit-learn takes the absence for another class: one that no chip has.
    true, given = (np.pad(flags, ((0, 0), (0, 1))) for flags in (judged.truth, judged.answered))
    told = np.flatnonzero((true | given).any(axis=0))
    own = true[:, : judged.n_classes]
    occurring = own.any(axis=0)
    sets = np.unique(judged.chips.y_true, return_counts=True)[1]
    return {
        "accuracy": float(judged.correct.mean()),
        "balanced_accuracy": float(_balanced(_counts(judged), judged.n)[0]),
        "samples_f1": float(sk.f1_score(true, given, average="samples", zero_division=1.0)),
        **{
            f"{mean}_f1": float(
                sk.f1_score(true, given, labels=told, average=mean, zero_division=0.0)
            )
            if len(told)
            else 1.0
            for mean in ("macro", "micro", "weighted")
        },
        "jaccard": float(sk.jaccard_score(true, given, average="samples", zero_division=1.0)),
        "mean_average_precision": float(
            np.mean(
                [
                    sk.average_precision_score(own[:, at], judged.probabilities[:, at])
                    for at in np.flatnonzero(occurring)
                ]
            )
        )
        if occurring.any()
        else 0.0,
        "hamming_loss": float(sk.hamming_loss(judged.truth, judged.answered)),
        "log_loss": float(_log_losses(judged).mean()),
        "brier": float(_briers(judged).mean()),
        **calibration.compute(judged.pairs),
        "baseline_accuracy": float(sets.max() / judged.n),
        "n_validation": judged.n,
        "n_groups": judged.n_groups,
        "n_classes": judged.n_classes,
        "n_unseen": int(judged.truth[:, judged.n_classes :].any(axis=1).sum()),
    }


def _log_losses(judged: JudgedSeveral) -> Floats:
    """Give each chip's mean over the classes of −ln p of what is so: float64 [n]."""
    so = np.where(
        judged.truth[:, : judged.n_classes], judged.probabilities, 1 - judged.probabilities
    )
    return np.asarray(-np.log(np.maximum(so, LEAST_PROBABILITY)).mean(axis=1))


def _briers(judged: JudgedSeveral) -> Floats:
    own = judged.truth[:, : judged.n_classes]
    return np.asarray(np.square(judged.probabilities - own).mean(axis=1))


def _overlaps(judged: JudgedSeveral) -> tuple[Floats, Floats]:
    """Give each chip's F1 and Jaccard: float64 [n] each."""
    both = (judged.truth & judged.answered).sum(axis=1)
    sizes = judged.truth.sum(axis=1) + judged.answered.sum(axis=1)
    return _ratio(2.0 * both, sizes, 1.0), _ratio(1.0 * both, sizes - both, 1.0)


def _counts(judged: JudgedSeveral) -> Floats:
    """Count each label's hits, chips and answers: float64 [3, 1, n_labels]."""
    true, given = judged.truth, judged.answered
    counts = [flags.sum(axis=0, keepdims=True) for flags in (true & given, true, given)]
    return np.stack(counts).astype(np.float64)


def _balanced(counts: Floats, n: Floats | int) -> Floats:
    """Give each round's mean over the labels that occur of recall and specificity's mean.

    Of a label that every chip has there is recall alone.

    Args:
        counts: each label's hits, chips and answers, float64 [3, rounds, n_labels].
        n: chips of each round.
    """
    hits, chips, answers = counts
    n = np.reshape(np.asarray(n, np.float64), (-1, 1))
    without = n - chips
    recall = _ratio(hits, chips)
    specificity = _ratio(without - answers + hits, without)
    own = np.where(without > 0, (recall + specificity) / 2, recall)
    occurs = chips > 0
    return _ratio((own * occurs).sum(axis=1), occurs.sum(axis=1))


def sums(judged: JudgedSeveral) -> sparse.csr_array:
    """Add up over each group what every score needs: float64 [n_groups, 3 n_labels + …].

    Hits, chips and answers of each label; then chips, exact ones, F1, Jaccard, log losses and Brier
    scores; then what the calibration error needs.
    """
    shape = (judged.n_groups, judged.n)
    one = (np.ones(judged.n), (judged.groups, np.arange(judged.n)))
    of_group = sparse.coo_array(one, shape=shape).tocsr()
    true, given = judged.truth, judged.answered
    parts = [of_group @ flags.astype(np.float64) for flags in (true & given, true, given)]
    values = [
        np.ones(judged.n),
        judged.correct,
        *_overlaps(judged),
        _log_losses(judged),
        _briers(judged),
    ]
    counts = [sparse.csr_array(part) for part in parts]
    return sparse.hstack(
        [*counts, summed(judged.chips, values), calibration.sums(judged.pairs)], format="csr"
    )


def from_sums(judged: JudgedSeveral, totals: Floats) -> dict[str, Floats]:
    """Give every score of each round from its *totals*, the columns of `sums`."""
    n_labels = len(judged.labels)
    edges = np.cumsum([n_labels, n_labels, n_labels, 6])
    hits, chips, answers, rest, bins = np.split(totals, edges, axis=1)
    n, exact, f1, jaccard, log_losses, briers = rest.T
    of_label = _ratio(2 * hits, chips + answers)
    told = (chips + answers > 0).sum(axis=1)
    all_hits, all_sizes = hits.sum(axis=1), (chips + answers).sum(axis=1)
    weighted = (of_label * chips).sum(axis=1)
    wrong = all_sizes - 2 * all_hits
    return {
        "accuracy": exact / n,
        "balanced_accuracy": _balanced(np.stack([hits, chips, answers]), n),
        "samples_f1": f1 / n,
        "macro_f1": _ratio(of_label.sum(axis=1), told, 1.0),
        "micro_f1": _ratio(2 * all_hits, all_sizes, 1.0),
        "weighted_f1": np.where(told > 0, _ratio(weighted, chips.sum(axis=1)), 1.0),
        "jaccard": jaccard / n,
        "hamming_loss": wrong / (n * n_labels),
        "log_loss": log_losses / n,
        "brier": briers / n,
        **calibration.from_sums(judged.pairs, bins),
    }


def _ratio(above: Floats, below: Floats | Indices, undefined: float = 0.0) -> Floats:
    """Divide, and give *undefined* where there is nothing to divide by."""
    out = np.full(np.shape(above), undefined, dtype=np.float64)
    return np.divide(above, below, out=out, where=np.asarray(below) > 0)
