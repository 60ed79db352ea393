"""The report's tables as rows: what stands in them and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.core.rejects import MEANING, REASONS
from pipeline.core.run_log import pluralize
from pipeline.validate.metrics import Judged, _counts, _trust, parts
from pipeline.validate.report import _confusion
from pipeline.validate.report._facts import ReportFacts

STAGES = ("index", "chip", "extract", "train", "validate")
ENDS = ("_low", "_high")
WEAKEST = 3
FEWEST = 10
"""Chips of a group that may stand among the weakest: one of two says nothing of its group."""

TILES = {
    "accuracy": "Accuracy",
    "baseline_accuracy": "Baseline accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "samples_f1": "Samples F1",
    "macro_f1": "Macro F1",
    "log_loss": "Log loss",
    "ece": "Calibration error",
}
"""The headline's metrics, in their order."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric; *low* and *high* are None where it has no interval.

    Attributes:
        is_share: whether it lies between 0 and 1 by its nature: log loss does not.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    meaning: str
    is_share: bool

    @property
    def on_axis(self) -> bool:
        """Whether the interval can be drawn on an axis from 0 to 1."""
        return self.is_share and self.low is not None and self.low >= 0


class Weak(NamedTuple):
    """One class or group that does badly; *value* is its F1 or its accuracy."""

    label: str
    n: int
    value: float
    taken_for: str = ""


class Weakest(NamedTuple):
    """Where the classifier is weakest: groups with fewer chips than *least* are left out."""

    classes: list[Weak]
    groups: list[Weak]
    least: int


@dataclass(frozen=True, slots=True)
class RejectRow:
    """All rejects of one stage and reason."""

    stage: str
    reason: str
    n: int
    meaning: str
    place: str
    detail: str


def metric_rows(facts: ReportFacts) -> list[MetricRow]:
    """Give one row a metric, in the metrics' own order, its interval beside it."""
    known = parts(facts.judged)
    said = {name: text for part in known for name, text in part.MEANING.items()}
    said |= _trust.MEANING | _counts.MEANING | MEANING
    shares = {name for part in known for name, (_, most) in part.RANGE.items() if most <= 1}
    shares |= _trust.SHARES
    flat = facts.metrics
    ends = {f"{name}{end}" for name in flat for end in ENDS}
    return [
        MetricRow(
            name,
            flat[name],
            flat.get(f"{name}_low"),
            flat.get(f"{name}_high"),
            said.get(name, ""),
            name in shares,
        )
        for name in sorted(flat.keys() - ends, key=lambda name: _order(name, list(said)))
    ]


def _order(name: str, known: list[str]) -> tuple[int, int, str]:
    """Put figures before counts, the headline's metrics first."""
    if name in TILES:
        return 0, [*TILES].index(name), name
    place = known.index(name) if name in known else len(known)
    return (2 if name.startswith("n_") else 1), place, name


def weakest(facts: ReportFacts) -> Weakest:
    """Give the classes and the groups that do worst, of those that make mistakes."""
    classes = facts.classes[(facts.classes["support"] > 0) & (facts.classes["f1"] < 1)]
    lowest = classes.sort_values(["f1", "support"], ascending=[True, False]).head(WEAKEST)
    taken = _confusion.taken_for(facts.judged.taken)
    groups = facts.groups
    low = groups[(groups["accuracy"] < 1) & (groups["n"] >= FEWEST)].head(WEAKEST)
    return Weakest(
        [
            Weak(row.label, row.support, row.f1, taken.get(row.label, "–"))
            for row in lowest.itertuples()
        ],
        [Weak(row.group, row.n, row.accuracy) for row in low.itertuples()],
        FEWEST,
    )


def reject_rows(rejects: pa.Table) -> list[RejectRow]:
    """Count *rejects* by stage, in the order of the stages, and reason, commonest first."""
    gathered: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rejects.to_pylist():
        gathered.setdefault((row["stage"], row["reason"]), []).append(row)
    rows = [
        RejectRow(
            stage,
            reason,
            len(these),
            REASONS.get(reason, ""),
            _place(these[0]),
            str(these[0]["detail"]),
        )
        for (stage, reason), these in gathered.items()
    ]
    return sorted(rows, key=lambda row: (_stage(row.stage), -row.n, row.reason))


def _stage(stage: str) -> tuple[int, str]:
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), stage


def _place(row: dict[str, object]) -> str:
    if row["row"] is None:
        return str(row["key"])
    return f"{row['key']} ({row['row']}, {row['col']})"


def near_rows(facts: ReportFacts) -> list[tuple[Any, tuple[bytes, bytes]]]:
    """Give the near twins that have pictures: a row of their table, and both pictures."""
    if facts.near is None:
        return []
    pictures = facts.near.pictures
    rows = facts.near.table.iloc[sorted(pictures)].itertuples()
    return [(row, pictures[row.Index]) for row in rows]


def notes(facts: ReportFacts) -> Iterator[str]:
    """Say what a reader must know before believing the headline."""
    judged, flat = facts.judged, facts.metrics
    if facts.straddling:
        have = "has" if facts.straddling == 1 else "have"
        yield (
            f"{pluralize(facts.straddling, 'groups')} {have} chips in more than one split: the "
            "classifier has seen places that it is judged on, and every figure here flatters it."
        )
    if len(facts.twins):
        have = "pair of images has" if len(facts.twins) == 1 else "pairs of images have"
        yield (
            f"{len(facts.twins):,} {have} the same bytes under two keys and lie in different "
            "splits: the classifier has seen what it is judged on. Put such images into one group, "
            "or remove one of them."
        )
    if facts.near and len(facts.near.table):
        n, more = len(facts.near.table), "at least " if facts.near.more else ""
        look = "chip looks" if n == 1 else "chips look"
        yield (
            f"{more}{n:,} validation {look} nearly the same as a chip that the classifier has "
            "learnt from: copies of one picture, perhaps, saved again or cut. The closest are "
            "shown under “How the chips were split”. Put copies into one group, or remove them."
        )
    if judged.n_groups == 1:
        yield (
            "All validation chips come from one group, which says nothing of others: the intervals "
            "are the whole range of each metric."
        )
    elif judged.n_groups < 10:  # noqa: PLR2004 - where cluster bootstraps are known to be too narrow
        yield (
            f"The intervals rest on only {judged.n_groups} groups and are likely to be too narrow."
        )
    unseen = int(flat.get("n_unseen", 0))
    if unseen:
        carry, they = (
            ("chip carries", "it counts") if unseen == 1 else ("chips carry", "they count")
        )
        leave = "is" if unseen == 1 else "are"
        one_each = isinstance(judged, Judged)
        yield (
            f"{unseen:,} {carry} a label that the classifier never saw in training; {they} as "
            f"wrong, and {leave if one_each else 'those labels are'} left out of the log loss."
        )
    if judged.n_groups > 1 and bool(judged.correct.all()):
        share = 1 - 0.05 ** (1 / judged.n_groups)
        yield (
            "Not one answer is wrong, and from what has no mistake resampling draws none: the "
            f"interval of the accuracy is too narrow. If {share:.0%} of such groups held mistakes, "
            f"{judged.n_groups:,} without one would still be drawn one time in twenty."
        )
    if flat.get("accuracy", 1.0) <= flat.get("baseline_accuracy", 0.0):
        commonest = "label" if isinstance(judged, Judged) else "set of labels"
        yield f"The classifier is no better than always answering the commonest {commonest}."
