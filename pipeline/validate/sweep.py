"""How good the best experiment of a sweep really is.

The best of n validation figures is too good: it was chosen for being the best. The correction
chooses again and again, each time on a resample of the groups, and evaluates each choice on the
groups that are not in the resample.

Source: Tsamardinos, Greasidou and Borboudakis 2018, "Bootstrapping the out-of-sample predictions
for efficient and accurate cross-validation" (BBC-CV), here by groups instead of rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.errors import InputError, SettingError
from pipeline.core.run_log import pluralize
from pipeline.store.outputs import pretty
from pipeline.validate.evaluation import Evaluation, Floats, evaluate
from pipeline.validate.metrics import scores
from pipeline.validate.metrics._bootstrap import draws

FILE = Path("sweep.json")


@dataclass(frozen=True, slots=True)
class Predicted:
    """What an experiment predicted.

    Attributes:
        table: schemas.PREDICTIONS.
        classes: in the order of the probabilities.
        separator: between the labels of a chip; None if it has exactly one.
    """

    table: pa.Table
    classes: list[str]
    separator: str | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the experiments of a sweep are worth.

    Attributes:
        metric: the one they are compared by.
        values: its value for each experiment on the chips that all evaluate, the best first.
        chips, groups: how many all of them evaluate.
        corrected: the value to expect of what a sweep like this one chooses; NaN with one group.
    """

    metric: str
    values: Mapping[str, float]
    chips: int
    groups: int
    corrected: float

    @property
    def best(self) -> str:
        """The name of the best experiment."""
        return next(iter(self.values))

    @property
    def verdict(self) -> str:
        """What the best value is worth, in two or three sentences."""
        name = self.metric.replace("_", " ")
        best = self.values[self.best]
        chips, groups = pluralize(self.chips, "chips"), pluralize(self.groups, "groups")
        first = (
            f"{self.best} has the best {name} of {pluralize(len(self.values), 'experiments')}, "
            f"{best:.3f}, on {chips} of {groups}. "
        )
        if len(self.values) == 1:
            return first + "Nothing was chosen, so nothing is to be corrected."
        if math.isnan(self.corrected):
            return (
                first + "It is too good, since it was chosen; one group does not show by how much."
            )
        gap = abs(best - self.corrected)
        return first + (
            "It is too good, since it was chosen for being the best: chosen on resampled groups, "
            f"and evaluated on the others, the best has {self.corrected:.3f}, a difference of "
            f"{gap:.3f}."
        )

    def to_bytes(self) -> bytes:
        """Return this as the JSON of `sweep.json`."""
        values = asdict(self) | {"values": [list(pair) for pair in self.values.items()]}
        return pretty(
            values | {"corrected": None if math.isnan(self.corrected) else self.corrected}
        )


def read(path: str) -> Sweep:
    """Read what `python -m stages.sweep` has written.

    Raises:
        InputError: it is missing, or something else.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        corrected = values.pop("corrected")
        pairs = {str(name): float(value) for name, value in values.pop("values")}
        return Sweep(values=pairs, corrected=math.nan if corrected is None else corrected, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"validate.sweep: {path}: not what python -m stages.sweep writes ({error})"
        ) from error


def compare(predicted: Mapping[str, Predicted], metric: str, rounds: int, seed: int) -> Sweep:
    """Compare experiments on the chips that all of them evaluate.

    Args:
        predicted: by experiment.
        metric: one of `metrics()`.
        rounds: resamples of the groups.
        seed: of the resamples.

    Raises:
        SettingError: there is no such metric for these data.
        InputError: the experiments have no chip in common, or give one different labels or groups.
    """
    names = sorted(predicted)
    evaluations = dict(zip(names, _evaluated([predicted[name] for name in names]), strict=True))
    for name, other in evaluations.items():
        if not _is_same(other, evaluations[names[0]]):
            raise InputError(
                f"{name} and {names[0]} give chips other labels or groups, so their figures cannot "
                "be compared"
            )
    first = evaluations[names[0]]
    drawn = draws(np.random.default_rng(seed), rounds, first.n_groups)
    weights = np.concatenate([np.ones((1, first.n_groups)), drawn, drawn == 0])
    values = np.stack([_values(metric, each, weights) for each in evaluations.values()])
    plain, inside, outside = np.split(values, [1, rounds + 1], axis=1)
    sign = 1 if scores.METRICS[metric].better == "higher" else -1
    best = (sign * inside).argmax(axis=0)
    has_outside = (drawn == 0).any(axis=1)
    chosen = outside[best, np.arange(rounds)][has_outside]
    order = np.argsort(-sign * plain[:, 0], kind="stable").tolist()
    return Sweep(
        metric=metric,
        values={names[at]: float(plain[at, 0]) for at in order},
        chips=first.n,
        groups=first.n_groups,
        corrected=float(chosen.mean()) if len(chosen) else float("nan"),
    )


def metrics() -> list[str]:
    """Return the metrics by which experiments can be compared."""
    return [name for name, metric in scores.METRICS.items() if metric.better]


def _evaluated(predicted: list[Predicted]) -> list[Evaluation]:
    """Evaluate each on the chips that are in all, in one order."""
    common = predicted[0].table["chip_id"]
    for other in predicted[1:]:
        common = common.filter(pc.is_in(common, value_set=other.table["chip_id"]))
    if not len(common):
        raise InputError("the experiments evaluate no chip in common; do they split alike?")
    found = []
    for each in predicted:
        at = pc.index_in(common, value_set=each.table["chip_id"].combine_chunks())
        found.append(evaluate(each.table.take(at), each.classes, each.separator))
    return found


def _is_same(one: Evaluation, other: Evaluation) -> bool:
    """Return True if the chips have the same labels and groups."""
    return (
        np.array_equal(one.groups, other.groups)
        and list(one.group_names) == list(other.group_names)
        and np.array_equal(one.label_sets, other.label_sets)
    )


def _values(metric: str, evaluation: Evaluation, weights: Floats) -> Floats:
    """Return *metric* with each row of *weights* [rounds, n_groups] for the groups: [rounds]."""
    totals = (scores.sums(evaluation).T @ weights.T).T
    with np.errstate(invalid="ignore", divide="ignore"):  # without any group, nothing is defined
        found = scores.from_sums(evaluation, totals)
    if metric not in found:
        raise SettingError(f"--by: {metric} is not defined here; choose of {', '.join(found)}")
    values: Floats = found[metric]
    return values
