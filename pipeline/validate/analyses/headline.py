"""How good the classifier is, in one sentence and some figures, and what it is worst at."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate import metrics
from pipeline.validate.analyses import Result
from pipeline.validate.analyses.confusion import confusion
from pipeline.validate.comparable import Comparable
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import NONE, Evaluation
from pipeline.validate.report.blocks import (
    Block,
    Kind,
    ReportSection,
    SideBySide,
    Table,
    Text,
    Tile,
    Tiles,
)
from pipeline.validate.report.page import share

ORDER = 10

TILES = {
    "accuracy": "Accuracy",
    "baseline_accuracy": "Baseline accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "samples_f1": "Samples F1",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
    "ece": "Calibration error",
}

N_WEAKEST = 3
MIN_CHIPS = 10
"""Of a weak group: one mistake in two chips says nothing about a group."""

WORDS = Text(
    "A chip is one window of an image; its label is what people called it. A group is what was "
    "kept together when the chips were split, such as a site, a survey or an image. The score is "
    "the probability that the classifier gives its own prediction. An interval shows how far the "
    "value might be from this one on other groups of the same kind.",
    "quiet small",
)


def analyse(data: ValidationData) -> Result:
    """Compute all metrics of the predictions."""
    evaluation = data.evaluation
    computed = metrics.compute(evaluation, data.validate)
    earlier = {name: _values(pair, evaluation) for name, pair in data.earlier.items()}
    tiles = [
        Tile(
            title,
            f"{computed[name]:.3f}",
            _detail(name, computed),
            [(other, f"{values[name]:.3f}") for other, values in earlier.items() if name in values],
        )
        for name, title in TILES.items()
        if name in computed
    ]
    blocks: list[Block] = [WORDS, Tiles(tiles), *_weakest(evaluation)]
    return Result(
        metrics=computed,
        lede=[_lede(evaluation, computed)],
        sections=[ReportSection("headline", "Result", blocks)],
    )


def _values(pair: Comparable, evaluation: Evaluation) -> dict[str, float]:
    """Return the earlier classifier's metrics that are of the same chips as this one's."""
    if pair.other.n < evaluation.n:
        return {}
    values = metrics.values(pair.other)
    if not np.array_equal(pair.other.known, evaluation.known):
        del values["log_loss"]
    return values


def _detail(name: str, computed: dict[str, float]) -> str:
    if f"{name}_low" not in computed:
        return "always the commonest label"
    return f"{computed[f'{name}_low']:.3f} to {computed[f'{name}_high']:.3f}"


def _lede(evaluation: Evaluation, computed: dict[str, float]) -> Markup:
    several = evaluation.is_multilabel
    sentences = Markup(
        "The classifier predicted {} of <strong>{}</strong> of {} from {} (95&nbsp;% interval: {} "
        "to {}). It distinguishes {}{}; always predicting the commonest {} would be correct for {}."
    )
    return sentences.format(
        "exactly the labels" if several else "the label",
        share(computed["accuracy"]),
        pluralize(evaluation.n, "validation chips"),
        pluralize(evaluation.n_groups, "groups"),
        share(computed["accuracy_low"]),
        share(computed["accuracy_high"]),
        pluralize(evaluation.n_classes, "classes"),
        ", of which a chip may have several or none" if several else "",
        "set of labels" if several else "label",
        share(computed["baseline_accuracy"]),
    )


def _weakest(evaluation: Evaluation) -> list[Block]:
    """Show the classes and the groups with the lowest scores, of those with mistakes."""
    tables = []
    columns: dict[str, Kind]
    if classes := weakest_classes(evaluation):
        columns = {"Label": "text", "Chips": "count", "F1": "share", "Most often taken for": "text"}
        name = "Weakest classes"
        tables.append(Table(name, columns, classes, title=name, order=None))
    if groups := weakest_groups(evaluation):
        columns = {"Group": "text", "Chips": "count", "Accuracy": "share"}
        name = f"Weakest groups of {MIN_CHIPS} chips or more"
        tables.append(Table(name, columns, groups, title=name, order=None))
    return [SideBySide([[table] for table in tables])] if tables else []


def weakest_classes(evaluation: Evaluation) -> list[tuple[str, int, float, str]]:
    """Return label, chips, F1 and commonest wrong prediction of the labels with the lowest F1."""
    counts, names = confusion(evaluation)
    support, given, hits = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts).copy()
    np.fill_diagonal(counts, 0)
    rows = [
        (names[at], int(support[at]), 2 * hits[at] / (support[at] + given[at]), counts[at])
        for at in np.flatnonzero(support)
        if names[at] != NONE and counts[at].any() | (given[at] > hits[at])
    ]
    rows.sort(key=lambda row: (row[2], -row[1], row[0]))
    return [
        (name, n, float(f1), _name(names[int(wrong.argmax())]) if wrong.any() else "–")
        for name, n, f1, wrong in rows[:N_WEAKEST]
    ]


def _name(label: str) -> str:
    return "nothing: missed" if label == NONE else label


def weakest_groups(evaluation: Evaluation) -> list[tuple[str, int, float]]:
    """Return group, chips and accuracy of the groups with the lowest accuracy."""
    n = np.bincount(evaluation.groups, minlength=evaluation.n_groups)
    correct = np.bincount(evaluation.groups, evaluation.correct, minlength=evaluation.n_groups)
    rows = [
        (name, int(n[at]), float(correct[at] / n[at]))
        for at, name in enumerate(evaluation.group_names)
        if n[at] >= MIN_CHIPS and correct[at] < n[at]
    ]
    return sorted(rows, key=lambda row: (row[2], -row[1], row[0]))[:N_WEAKEST]
