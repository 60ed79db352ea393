"""The learning curve while it grows, in the files of DVCLive, for DVC and VS Code to draw.

DVCLive itself is not asked to write them: it imports DVC, which takes longer than most trainings,
and would append where a training that was cut off goes on.

Source: DVCLive 3, https://dvc.org/doc/dvclive/how-it-works: `metrics.json`, the last value of each
metric, and `plots/metrics/<metric>.tsv`, one row a step, counted from 0.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import StorageError
from pipeline.store import outputs

LIVE = Path("dvclive")
METRICS = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "calibration/loss": "calibration_loss",
    "calibration/accuracy": "calibration_accuracy",
}
"""The column of the learning curve by the metric's name."""


def write(curve: Sequence[Mapping[str, Any]]) -> None:
    """Make LIVE hold *curve*, one row an epoch; what is empty there has no file.

    A reader finds each file as it was before or as it is now, and no epoch that the curve lacks.

    Raises:
        StorageError: LIVE cannot be written.
    """
    wanted = _files(curve)
    try:
        _place(wanted)
    except OSError as error:
        raise StorageError(f"{LIVE}: cannot be written ({error.strerror or error})") from error


def _place(wanted: Mapping[str, bytes]) -> None:
    for name, data in wanted.items():
        outputs.place(LIVE / name, outputs.out(data))
    plots = LIVE / "plots"
    for path in plots.rglob("*"):
        if path.is_file() and path.relative_to(LIVE).as_posix() not in wanted:
            path.unlink()


def exists() -> bool:
    """Say whether a curve has been written."""
    return (LIVE / "metrics.json").exists() and (LIVE / "plots" / "metrics").exists()


def _files(curve: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    last: dict[str, Any] = {}
    for metric, column in METRICS.items():
        values = [row[column] for row in curve]
        if None in values or "" in values:
            continue
        split, name = metric.split("/")
        sink = io.StringIO()
        lines = csv.writer(sink, delimiter="\t", lineterminator="\n")
        lines.writerow(["step", name])
        lines.writerows(enumerate(values))
        files[f"plots/metrics/{metric}.tsv"] = sink.getvalue().encode()
        last.setdefault(split, {})[name] = float(values[-1])
    last["step"] = len(curve) - 1
    return {**files, "metrics.json": f"{json.dumps(last, indent=4)}\n".encode()}
