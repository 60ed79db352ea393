"""Results: seconds and memory of every figure, table, plot and the report of many chips.

    python benchmarks/results.py [--chips 200000] [--classes 100] [--groups 2000] [--rounds 1000]

Predictions are synthetic, mostly correct, of a classifier and of an earlier one. All that the
validate stage computes from predictions is measured, except pictures and near duplicates.
Fails if it takes longer than a minute.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _shared import about

from pipeline.core import schemas
from pipeline.validate.analyses import analyses
from pipeline.validate.comparable import Comparable
from pipeline.validate.predictions import Predictions
from pipeline.validate.report import page
from pipeline.validate.results import report_page
from pipeline.validate.valresult import valresult

sys.path += [str(Path(__file__).parents[1] / "tests/support")]
from pages import data_of, with_validate

MOST_S = 60
CHIPS_OF_IMAGE = 25


def made_up(chips: int, classes: int, groups: int, seed: int) -> pa.Table:
    """Return synthetic predictions; labels, groups and images are the same for every seed."""
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
    """Return the names of the classes."""
    return [f"class {n:03d}" for n in range(classes)]


class Clock:
    """Seconds of each part: elapsed, and of the processor."""

    def __init__(self) -> None:
        self.took: dict[str, tuple[float, float]] = {}

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        """Call *work*, record its time, and return its result."""
        began, busy = time.perf_counter(), time.process_time()
        found = work()
        self.took[name] = time.perf_counter() - began, time.process_time() - busy
        return found


def results(made: pa.Table, earlier: pa.Table, classes: list[str], rounds: int) -> Clock:
    """Compute all results of the predictions *made* except near duplicates and pictures."""
    clock = Clock()
    predictions = Predictions(made, classes, None)
    evaluation = clock("arrays", lambda: predictions.evaluation)
    data = data_of(
        made,
        classes,
        calibration_predictions=predictions,
        earlier={"a": Comparable(evaluation, Predictions(earlier, classes, None).evaluation)},
        evaluation=evaluation,
    )
    data = with_validate(data, bootstrap_rounds=rounds, gallery_size=0)
    for analysis in analyses():
        name = analysis.__name__.rpartition(".")[2]
        data.results.append(clock(name, partial(analysis.analyse, data)))
    clock("report", lambda: page.render(report_page(data)))
    plots = {name: plot for result in data.results for name, plot in result.plots.items()}
    clock("plots", lambda: page.plots(plots))
    clock("files", lambda: (schemas.to_bytes(made), valresult(made["score"], evaluation)))
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
    clock = results(made, earlier, names_of(wanted.classes), wanted.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total, busy = (sum(seconds) for seconds in zip(*clock.took.values(), strict=True))
    for name, seconds in [*clock.took.items(), ("all", (total, busy))]:
        print(f"{name:24s}{seconds[0]:8.2f} s, {seconds[1]:8.2f} s of processor")
    print(f"{total / MOST_S:.3f} of a minute")
    print(f"peak {peak / 2**20:.2f} GiB, {before / 2**20:.2f} GiB before")
    return int(total > MOST_S)


if __name__ == "__main__":
    sys.exit(main())
