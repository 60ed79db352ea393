"""Evaluate the classifier on the test split, and record that somebody has looked at it.

No stage trains on the groups of `split.test`, calibrates on them or evaluates them, so their
figures are honest once: who then changes a setting because of them has used them as validation
data. The record cannot prevent that, but shows it.

Source: Dwork et al. 2015, "The reusable holdout", for what repeated looks cost.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import schemas
from pipeline.core.errors import InputError, SettingError
from pipeline.core.run_log import pluralize
from pipeline.store import outputs
from pipeline.store.context import Context
from pipeline.store.outputs import CLASSIFIER, out, pretty
from pipeline.train import labelled_features
from pipeline.train import stage as train
from pipeline.validate import results
from pipeline.validate.analyses import confusion, headline, per_class, per_group
from pipeline.validate.data import ValidationData
from pipeline.validate.spreadsheet import to_csv

FOLDER = Path("test_results")
LOOKS = FOLDER / "looks.csv"
ANALYSES = (headline, confusion, per_class, per_group)


@dataclass(frozen=True, slots=True)
class Look:
    """One evaluation of the test split: a line of `looks.csv`.

    Attributes:
        at: when, in UTC.
        classifier: the first digits of the digest of `model.safetensors`.
        labels: the same of the labels of the test split.
        chips, groups: how many were evaluated.
        accuracy, accuracy_low, accuracy_high: with the ends of its interval.
    """

    at: str
    classifier: str
    labels: str
    chips: int
    groups: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def evaluate(context: Context) -> str:
    """Write `test_results/`, add a line to its `looks.csv`, and return the result in two sentences.

    Raises:
        SettingError: `split.test` is 0.
        InputError: a stage has not run, the classifier is not that of these labels, or the test
            split has no labelled chip.
    """
    if not context.params.split.test:
        raise SettingError(
            "split.test: 0: no group is set aside; set it, such as to 0.15, and run dvc repro "
            "before you look at any results"
        )
    manifest = outputs.require_manifest(CLASSIFIER)
    if manifest["inputs"] != labelled_features.digests_of(*train.SPLITS):
        raise InputError(f"{CLASSIFIER}: was trained on other labels or features; run dvc repro")
    inputs = labelled_features.digests_of("test")
    data = results.read(context, inputs, "test")
    if not data.validation.labels.num_rows:
        raise InputError("test: no chip of the test split has a label; raise split.test")
    metrics = _write(data)
    digest = manifest["digests"]["model.safetensors"]
    look = Look(
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        classifier=digest[: results.DIGEST_SHOWN],
        labels=inputs["labels"][: results.DIGEST_SHOWN],
        chips=data.evaluation.n,
        groups=data.evaluation.n_groups,
        accuracy=metrics["accuracy"],
        accuracy_low=metrics["accuracy_low"],
        accuracy_high=metrics["accuracy_high"],
    )
    return f"{_result(look, metrics)}\n{_record(look)}"


def _write(data: ValidationData) -> dict[str, float]:
    """Write metrics, tables and predictions, and return the metrics."""
    found = [analysis.analyse(data) for analysis in ANALYSES]
    metrics = {name: round(v, 6) for result in found for name, v in result.metrics.items()}
    files = {
        "metrics.json": pretty(metrics),
        "predictions.parquet": schemas.to_bytes(data.predictions.table),
    }
    for result in found:
        files |= {f"{name}.csv": to_csv(table) for name, table in result.tables.items()}
    for name, content in files.items():
        outputs.place(FOLDER / name, out(content))
    return metrics


def _result(look: Look, metrics: Mapping[str, float]) -> str:
    return (
        f"test: {pluralize(look.chips, 'chips')} of {pluralize(look.groups, 'groups')}; accuracy "
        f"{look.accuracy:.3f} ({look.accuracy_low:.3f} to {look.accuracy_high:.3f}), balanced "
        f"accuracy {metrics['balanced_accuracy']:.3f}"
    )


def _record(look: Look) -> str:
    """Add *look* to the record, and return what the record says."""
    names = list(Look.__slots__)
    looks = read_looks()
    values: dict[str, Any] = {name: getattr(look, name) for name in names}
    is_new = not LOOKS.exists()
    with LOOKS.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(values)
    if not looks:
        return f"This is the first look at the test split. It is recorded in {LOOKS}: commit it."
    classifiers = len({row["classifier"] for row in looks} | {look.classifier})
    return (
        f"The test split has been looked at {len(looks) + 1} times, with "
        f"{pluralize(classifiers, 'classifiers')} ({LOOKS}). The first look is the one to report: "
        "a choice made after it makes later figures too good."
    )


def read_looks() -> list[dict[str, str]]:
    """Return the lines of the record, the oldest first."""
    if not LOOKS.exists():
        return []
    with LOOKS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
