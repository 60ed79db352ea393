"""Write `pipeline/code.lock`: code as it is now counts as the code of its `VERSION`s.

    make lock

The pipeline runs on a small bucket, and a few values of each table are compared with those in
`values.json`, which the last lock was written with. If values of a stage differ, its `VERSION`, or
that of a stage before it, must have been raised: then they are the new values. Otherwise nothing is
written.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from conftest import new_repo, textures

from pipeline import images
from pipeline.chip import labels, methods
from pipeline.core import code_version
from pipeline.extract import recipe as extract_recipe
from pipeline.extract.extractors import filters
from pipeline.images import resize, windows
from pipeline.index import recipe as index_recipe
from pipeline.train import recipe as train_recipe
from pipeline.train.classifiers import mlp
from pipeline.validate import recipe as validate_recipe

VALUES = Path(__file__).with_name("values.json")
PARTS = {
    "index": [index_recipe, images],
    "chips": [methods, windows],
    "labels": [labels],
    "features": [extract_recipe, resize, filters],
    "classifier": [train_recipe, mlp],
    "results": [validate_recipe],
}
"""The modules whose VERSION stands for the code of a table, in the order of the flow."""

TOLERANCE = 0.002
"""Processors differ in the last bits of a float, and a training makes more of that."""

COLUMNS = {
    "index": ("data/index/images.parquet", "key width height format mode orientation"),
    "chips": ("data/chips", "key row col top left height width"),
    "labels": ("data/labels/labels.parquet", "key row col label group split"),
}
METRICS = ("accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "log_loss", "ece")


def versions() -> dict[str, list[int]]:
    """Return the versions of the code of each table."""
    return {name: [part.VERSION for part in parts] for name, parts in PARTS.items()}


def values(repo: Path) -> dict[str, Any]:
    """Return a few values of each table in *repo*, in which `dvc repro` has run on `textures`."""
    found: dict[str, Any] = {}
    for name, (path, columns) in COLUMNS.items():
        rows = pq.read_table(repo / path).select(columns.split()).to_pylist()
        text = json.dumps(sorted(list(row.values()) for row in rows))
        found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    table = pq.read_table(repo / "data/features").sort_by(
        [(n, "ascending") for n in ("key", "row")]
    )
    features = np.stack(table["feature"].to_numpy())
    found["features"] = [float(features[at].mean()) for at in (0, len(features) // 2, -1)]
    found["features"] += [float(features[:, at].std()) for at in (0, 50, 100, 200)]
    with (repo / "models/classifier/curve.csv").open(encoding="utf-8") as stream:
        found["classifier"] = [float(row["train_loss"]) for row in csv.DictReader(stream)]
    metrics = json.loads((repo / "results/metrics.json").read_text(encoding="utf-8"))
    found["results"] = [metrics[name] for name in METRICS]
    return found


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the tables whose values differ."""
    return [name for name in PARTS if not _is_same(old.get(name), new[name])]


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(new, str) or old is None or len(old) != len(new):
        return bool(old == new)
    return bool(np.allclose(old, new, rtol=TOLERANCE, atol=TOLERANCE))


def unexplained(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the tables whose values differ though neither their code nor earlier code is new."""
    order = list(PARTS)
    raised = [old["versions"].get(name) != new["versions"][name] for name in order]
    differing = changed(old["values"], new["values"])
    return [name for name in differing if not any(raised[: order.index(name) + 1])]


def main() -> int:
    """Write the lock and the values, unless values differ for no reason."""
    with tempfile.TemporaryDirectory() as folder:
        repo = new_repo(Path(folder) / "repo", textures(Path(folder) / "bucket"))
        repo.said("dvc", "repro")
        new = {"versions": versions(), "values": values(repo.path)}
    old = json.loads(VALUES.read_text(encoding="utf-8")) if VALUES.exists() else new
    if tables := unexplained(old, new):
        for name in tables:
            where = ", ".join(part.__name__ for part in PARTS[name])
            print(
                f"{name}: {new['values'][name]} instead of {old['values'][name]}: raise VERSION in "
                f"{where}, or of what it is made from",
                file=sys.stderr,
            )
        return 1
    if new["versions"] != old["versions"] or not VALUES.exists():
        VALUES.write_text(json.dumps(new, indent=1) + "\n", encoding="utf-8")
    code_version.LOCK.write_text(code_version.lock(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
