"""Results: seconds and memory of every figure, table, plot and the report of many chips.

    python benchmarks/results.py [--chips 200000] [--classes 100] [--groups 2000] [--rounds 1000]

Predictions are made up, right more often than not; an earlier classifier's beside them. What is
measured is all that the validate stage makes of predictions, a gallery of pictures apart. Fails
where it takes longer than a minute.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from _shared import about

from pipeline.config.sections import ValidateParams
from pipeline.core import rejects, schemas
from pipeline.validate import metrics, report
from pipeline.validate.metrics import (
    _compared,
    _cover,
    _doubts,
    _tables,
    _trust,
    calibration,
    judged,
)
from pipeline.validate.report import ReportFacts, SplitCount, Trust
from pipeline.validate.report.valresult import valresult

MOST_S = 60
CHIPS_OF_IMAGE = 25


def made_up(chips: int, classes: int, groups: int, seed: int) -> pa.Table:
    """Make predictions; labels, groups and images are the same for every seed."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    names = names_of(classes)
    label = np.minimum(rng.exponential(classes / 5, chips).astype(int), classes - 1)
    image = np.arange(chips) // CHIPS_OF_IMAGE
    given = own.standard_normal((chips, classes), dtype=np.float32)
    given[np.arange(chips), label] += 4
    given = np.exp(given)
    given /= given.sum(axis=1, keepdims=True)
    ends = pa.array(np.arange(chips + 1) * classes, pa.int32())
    columns = {
        "chip_id": pa.array([n.to_bytes(16, "big") for n in range(chips)], schemas.CHIP_ID),
        "key": [f"{n:08d}.jpg" for n in image.tolist()],
        "row": np.arange(chips) % CHIPS_OF_IMAGE,
        "col": np.zeros(chips, int),
        "group": [f"site {n % groups:05d}" for n in image.tolist()],
        "label": [names[n] for n in label.tolist()],
        "predicted": [names[n] for n in given.argmax(axis=1).tolist()],
        "score": given.max(axis=1),
        "probabilities": pa.ListArray.from_arrays(ends, pa.array(given.ravel())),
    }
    return schemas.conform(pa.table(columns), schemas.PREDICTIONS)


def names_of(classes: int) -> list[str]:
    """Name the classes."""
    return [f"class {n:03d}" for n in range(classes)]


class Clock:
    """Seconds by what was done: by the clock, and of processors."""

    def __init__(self) -> None:
        self.took: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Do *work*, and note how long it took."""
        began, busy = time.perf_counter(), time.process_time()
        found = work()
        self.took[name] = time.perf_counter() - began, time.process_time() - busy
        return found


def results(
    made: pa.Table, earlier: pa.Table, classes: list[str], validate: ValidateParams
) -> Clock:
    """Make all that the validate stage makes of *made*."""
    clock = Clock()
    ours = clock("arrays", lambda: judged(made, classes))
    figures = clock("metrics and intervals", lambda: metrics.compute(ours, validate))
    by_class = clock("per class", lambda: _tables.per_class(ours, validate))
    chosen = _trust.choose(ours, 0.95)
    clock("threshold", lambda: _trust.interval(ours, chosen.score or 0.0, validate))
    theirs = judged(earlier, classes)
    compared = clock("an earlier one", lambda: _compared.compared(ours, {"a": theirs}, validate))
    split = pa.chunked_array([np.repeat(["validation"], made.num_rows)])
    doubts = clock("suspects", lambda: _doubts.table(ours, made, split))
    groups = clock("per group", lambda: _tables.per_group(ours, validate))
    covers = clock("cover", lambda: _cover.cover(ours, validate))
    others = [_trust.coverage, calibration.reliability, _tables.confusion_rows]
    clock("other tables", lambda: [part(ours).to_csv() for part in others])
    facts = ReportFacts(
        title="How good is the classifier?",
        metrics=figures,
        judged=ours,
        curve=pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0]}),
        classes=by_class,
        groups=groups,
        covers=covers,
        splits={"validation": SplitCount(made.num_rows, ours.n_groups, made.num_rows)},
        straddling=0,
        rejects=rejects.table([]),
        trust=Trust(0.95, chosen, _trust.confirm(ours, chosen.score)),
        n_label_issues=len(doubts),
        compared=compared,
    )
    clock("report", lambda: report.render(facts))
    clock("plots", lambda: report.plots(facts))
    clock("files", lambda: (schemas.to_bytes(made), valresult(made, classes)))
    return clock


def main() -> int:
    """Make them, and print how long each part took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in {"chips": 200_000, "classes": 100, "groups": 2_000, "rounds": 1_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    wanted = parser.parse_args()
    about("numpy", "scikit-learn", "pyarrow")
    size = (wanted.chips, wanted.classes, wanted.groups)
    made, earlier = made_up(*size, seed=1), made_up(*size, seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = results(
        made, earlier, names_of(wanted.classes), ValidateParams(bootstrap_rounds=wanted.rounds)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total, busy = (sum(seconds) for seconds in zip(*clock.took.values(), strict=True))
    for name, seconds in [*clock.took.items(), ("all", (total, busy))]:
        print(f"{name:24s}{seconds[0]:8.2f} s, {seconds[1]:8.2f} s of processor")
    print(f"{total / MOST_S:.3f} of a minute")
    print(f"peak {peak / 2**20:.2f} GiB, {before / 2**20:.2f} GiB before")
    return int(total > MOST_S)


if __name__ == "__main__":
    sys.exit(main())
