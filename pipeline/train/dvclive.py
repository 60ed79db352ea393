"""The learning curve while it grows, in DVCLive's files, for DVC and VS Code to draw.

DVCLive itself is not used to write them: it imports DVC, which takes longer than most trainings,
and it would append to the files of a training that was interrupted.

Source: DVCLive 3, https://dvc.org/doc/dvclive/how-it-works: `metrics.json` has the last value of
each metric, and `plots/metrics/<metric>.tsv` one row for each step, counted from 0.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import StorageError
from pipeline.store.outputs import Out, out, place

FOLDER = Path("dvclive")
COLUMNS = ("train_loss", "train_accuracy", "calibration_loss", "calibration_accuracy")
"""The columns of the learning curve that become metrics, such as `train/loss`."""


def write(curve: Sequence[Mapping[str, Any]]) -> dict[Path, Out]:
    """Write *curve*, which has one row for each epoch, and return the files by path.

    Each file is replaced atomically. A column without values has no file; files of an earlier curve
    are deleted.

    Raises:
        StorageError: a file cannot be written.
    """
    files = _files(curve)
    try:
        for path, file in files.items():
            place(path, file)
        for path in (FOLDER / "plots").rglob("*"):
            if path.is_file() and path not in files:
                path.unlink()
    except OSError as error:
        raise StorageError(f"{FOLDER}: cannot be written ({error.strerror or error})") from error
    return files


def _files(curve: Sequence[Mapping[str, Any]]) -> dict[Path, Out]:
    files: dict[Path, Out] = {}
    last: dict[str, Any] = {}
    for column in COLUMNS:
        values = [row[column] for row in curve]
        if None in values or "" in values:
            continue
        split, name = column.split("_")
        sink = io.StringIO()
        lines = csv.writer(sink, delimiter="\t", lineterminator="\n")
        lines.writerow(["step", name])
        lines.writerows(enumerate(values))
        files[FOLDER / f"plots/metrics/{split}/{name}.tsv"] = out(sink.getvalue().encode())
        last.setdefault(split, {})[name] = float(values[-1])
    last["step"] = len(curve) - 1
    files[FOLDER / "metrics.json"] = out(f"{json.dumps(last, indent=4)}\n".encode())
    return files
