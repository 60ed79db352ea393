"""Tasks for Label Studio: one an exported chip, with its label and the classifier's answer.

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

SAID = ("key", "row", "col", "group", "split")


def tasks(context: Context, table: pa.Table, url: str) -> bytes:
    """Give the tasks of *table*, as Label Studio imports them.

    Args:
        context: the work's.
        table: schemas.EXPORTED, a file a chip.
        url: what stands before a file's key in its address.
    """
    separator = label_separator(context.params.annotations)
    answers = _answers()
    found = []
    for row in table.to_pylist():
        key = row["object"] if url.startswith("s3://") else quote(row["object"])
        data = {"image": f"{url}{key}", "chip_id": row["chip_id"].hex()}
        task: dict[str, Any] = {"data": data | {f"chip_{name}": row[name] for name in SAID}}
        if row["label"] is not None:
            task["annotations"] = [{"result": _result(row["label"], separator)}]
        if (answer := answers.get(row["chip_id"])) is not None:
            predicted, score, model = answer
            said = {"result": _result(predicted, separator), "score": score}
            task["predictions"] = [{"model_version": model, **said}]
        found.append(task)
    return (json.dumps(found, ensure_ascii=False, indent=1) + "\n").encode()


def _answers() -> dict[bytes, tuple[str, float, str]]:
    """Give what the classifier says of the chips that it was judged by; nothing before that."""
    manifest = outputs.read_manifest(RESULTS)
    if manifest is None:
        return {}
    columns = ["chip_id", "predicted", "score"]
    rows = pq.read_table(RESULTS / "predictions.parquet", columns=columns).to_pylist()
    model = str(manifest["recipe"])[:12]
    return {row["chip_id"]: (row["predicted"], round(row["score"], 6), model) for row in rows}


def _result(text: str, separator: str | None) -> list[dict[str, Any]]:
    choices = list(label_sets.split(text, separator))
    where = {"type": "choices", "from_name": "choice", "to_name": "image"}
    return [{**where, "value": {"choices": choices}}] if choices else []
