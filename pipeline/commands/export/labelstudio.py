"""Tasks for Label Studio: one for each exported chip, with its label and the prediction.

Source: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations import label_separator
from pipeline.core import label_sets
from pipeline.store import outputs
from pipeline.store.context import Context
from pipeline.store.outputs import RESULTS


def tasks(context: Context, chips: pa.Table, url: str) -> bytes:
    """Return the tasks of *chips*, as Label Studio imports them.

    Args:
        context: the params.
        chips: schemas.EXPORTED, a file a chip.
        url: the address of the target folder, with a slash at the end.
    """
    separator = label_separator(context.params.annotations)
    predictions = _predictions()
    tasks = []
    for row in chips.to_pylist():
        key = row["object"] if url.startswith("s3://") else quote(row["object"])
        data = {"image": f"{url}{key}", "chip_id": row["chip_id"].hex()}
        data |= {f"chip_{name}": row[name] for name in ("key", "row", "col", "group", "split")}
        task: dict[str, Any] = {"data": data}
        if row["label"] is not None:
            task["annotations"] = [{"result": _result(row["label"], separator)}]
        if (prediction := predictions.get(row["chip_id"])) is not None:
            result = _result(prediction["predicted"], separator)
            score, model = round(prediction["score"], 6), prediction["model"]
            task["predictions"] = [{"model_version": model, "result": result, "score": score}]
        tasks.append(task)
    return (json.dumps(tasks, ensure_ascii=False, indent=1) + "\n").encode()


def _predictions() -> dict[bytes, dict[str, Any]]:
    """Return the predictions for the validation chips by chip_id; none before validate has run."""
    manifest = outputs.read_manifest(RESULTS)
    if manifest is None:
        return {}
    columns = ["chip_id", "predicted", "score"]
    rows = pq.read_table(RESULTS / "predictions.parquet", columns=columns).to_pylist()
    return {row["chip_id"]: {**row, "model": str(manifest["recipe"])[:12]} for row in rows}


def _result(text: str, separator: str | None) -> list[dict[str, Any]]:
    choices = list(label_sets.split(text, separator))
    control = {"type": "choices", "from_name": "choice", "to_name": "image"}
    return [{**control, "value": {"choices": choices}}] if choices else []
