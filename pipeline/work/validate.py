"""Validate: judge the classifier on the validation split, and write down how it did."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import outs, recipes, rejects, schemas
from pipeline.hashing import digest
from pipeline.outs import Out, pretty
from pipeline.params import SECTIONS
from pipeline.store import Piece
from pipeline.work import _rows
from pipeline.work._context import (
    CHIPS,
    CLASSIFIER,
    FEATURES,
    INDEX,
    RESULTS,
    Context,
    Tell,
)

TABLE = "results"


def inputs() -> dict[str, Any]:
    """Digest what the results start from, as the manifests before them say."""
    classifier = outs.require_manifest(CLASSIFIER, "train")
    folders = (INDEX, CHIPS, FEATURES)
    refused = [pq.read_table(folder / "rejects.parquet") for folder in folders]
    return {
        **_rows.inputs(),
        "classifier": classifier["digests"],
        "rejects": digest([table.to_pylist() for table in refused]),
    }


def piece(context: Context) -> Piece:
    """Name the results that these inputs and settings give."""
    shown = {key: getattr(context.params, key).shaping() for key in SECTIONS}
    made_from = digest({"inputs": inputs(), "shown": shown})
    return Piece(TABLE, recipes.validate(context.params).digest, "all", made_from)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the classifier says of the validation split, and where the chips are."""

    predictions: pa.Table
    classes: list[str]
    card: Mapping[str, Any]
    curve: list[dict[str, Any]]


def make(context: Context, target: Piece, tell: Tell) -> None:  # noqa: ARG001
    """Predict, compute every figure, draw the report, and keep it all in the store.

    Raises:
        InputError: the validation split has no labelled chip, or the classifier cannot be read.
        StorageError: a chip of the gallery cannot be read, or its image has changed.
    """
    from pipeline import metrics, report
    from pipeline.metrics import _tables, calibration

    labels = _rows.labels()
    answers = _answers(labels)
    judged = metrics.judge(answers.predictions, answers.classes)
    figures = metrics.compute(judged, context.params.validate)
    facts = report.Facts(
        metrics=figures,
        judged=judged,
        curve=answers.curve,
        splits=_splits(labels),
        straddling=_straddling(labels),
        rejects=_rejects(),
        gallery=_gallery(context, answers, judged),
        provenance=_provenance(context, answers),
        card=answers.card,
    )
    files = {
        "metrics.json": pretty(figures),
        "predictions.parquet": schemas.to_bytes(answers.predictions),
        "valresult.json": json.dumps(_tables.valresult(judged), ensure_ascii=False).encode(),
        "report.html": report.render(facts).encode(),
        "rejects.parquet": schemas.to_bytes(schemas.REJECTS.empty_table()),
        "tables/confusion.csv": _csv(_tables.pairs(judged)),
        "tables/per_class.csv": _csv(_tables.per_class(judged)),
        "tables/per_group.csv": _csv(_tables.per_group(judged)),
        "tables/reliability.csv": _csv(calibration.reliability(judged)),
        "tables/splits.csv": _csv(facts.splits),
    }
    # A file of the store has no folders in its name.
    kept = {name.replace("/", "@"): (data, 0) for name, data in files.items()}
    context.store.put(target, kept, {"run": context.run})


def _answers(labels: pa.Table) -> Answers:
    from pipeline.classifiers import _artifact

    classifier = _artifact.read(CLASSIFIER)
    found = _rows.labelled(labels, "validation")
    probabilities = classifier.predict_proba(found.features).astype(np.float32)
    classes = list(classifier.classes)
    best = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, np.int64)
    rows = found.labels.select(["chip_id", "key", "row", "col", "group", "label"])
    rows = rows.append_column(
        "predicted", pa.array([classes[index] for index in best], pa.string())
    )
    scores = probabilities[np.arange(len(best)), best]
    rows = rows.append_column("score", pa.array(scores, pa.float32()))
    ends = pa.array(np.arange(len(best) + 1) * len(classes), pa.int32())
    lists = pa.ListArray.from_arrays(ends, pa.array(probabilities.ravel(), pa.float32()))
    predictions = rows.append_column("probabilities", lists)
    with (CLASSIFIER / "curve.csv").open(encoding="utf-8", newline="") as stream:
        curve = [_numbers(row) for row in csv.DictReader(stream)]
    return Answers(
        schemas.conform(predictions, schemas.PREDICTIONS), classes, classifier.card, curve
    )


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    return {name: float(value) if value else None for name, value in row.items()} | {
        "epoch": int(row["epoch"])
    }


def _splits(labels: pa.Table) -> list[dict[str, Any]]:
    rows = []
    for split in ("train", "calibration", "validation"):
        some = labels.filter(pc.equal(labels["split"], split))
        labelled = some.num_rows - some["label"].null_count
        groups = pc.count_distinct(some["group"]).as_py()
        rows.append(
            {"split": split, "chips": some.num_rows, "labelled": labelled, "groups": groups}
        )
    return rows


def _straddling(labels: pa.Table) -> int:
    """Count groups that lie in more than one split: the proof that there are none."""
    of_group = (
        labels.select(["group", "split"]).group_by("group").aggregate([("split", "count_distinct")])
    )
    return int(pc.sum(pc.greater(of_group["split_count_distinct"], 1)).as_py() or 0)


def _rejects() -> list[dict[str, Any]]:
    found = []
    for folder in (INDEX, CHIPS, FEATURES):
        table = pq.read_table(folder / "rejects.parquet")
        firsts = {row["reason"]: row for row in reversed(table.to_pylist())}
        for reason, count in rejects.counts(table).items():
            first = firsts[reason]
            sentence = rejects.REASONS[reason]
            found.append(
                {
                    "stage": first["stage"],
                    "reason": reason,
                    "sentence": sentence,
                    "count": count,
                    "first": first["detail"],
                }
            )
    return found


def _gallery(context: Context, answers: Answers, judged: Any) -> list[Any]:
    """Cut the chips that are shown out of their images, as the extractor saw them."""
    from pipeline.report import _gallery as gallery

    chosen = gallery.choose(judged, context.params.validate.gallery)
    if not chosen:
        return []
    rows = answers.predictions.take(pa.array([row for _, row in chosen])).to_pylist()
    pixels = _cut(context, [row["chip_id"] for row in rows])
    return [
        gallery.Shown(
            kind=kind,
            **{name: row[name] for name in ("key", "row", "col", "label", "predicted", "score")},
            png=gallery.data_address(pixels[row["chip_id"]]),
        )
        for (kind, _), row in zip(chosen, rows, strict=True)
    ]


def _cut(context: Context, wanted: Sequence[bytes]) -> dict[bytes, Any]:
    from pipeline import images
    from pipeline.storage import open_storage
    from pipeline.windows import crop

    storage = open_storage(context.params.bucket.url, memory=context.machine.digests)
    manifest = outs.require_manifest(CHIPS, "chip")
    paths = [CHIPS / f"{line['shard']:04d}.parquet" for line in manifest["shards"]]
    only = pa.array(sorted(wanted), schemas.CHIP_ID)
    found: dict[bytes, Any] = {}
    last: tuple[str, Any] = ("", None)
    for path in paths:
        table = pq.read_table(path)
        for row in table.filter(pc.is_in(table["chip_id"], value_set=only)).to_pylist():
            if row["key"] != last[0]:
                data = storage.read(row["key"], if_version=row["version"])
                last = (row["key"], images.decode(data, extract=context.params.extract))
            window = (row["top"], row["left"], row["height"], row["width"])
            found[row["chip_id"]] = crop(last[1], window)
    return found


def _provenance(context: Context, answers: Answers) -> dict[str, str]:
    """Say what made the results: settings, recipes, digests; nothing of clock, host or path."""
    text: dict[str, str] = {}
    for key in SECTIONS:
        section = getattr(context.params, key)
        text[f"params.yaml: {key}"] = _text(section.shaping())
    text["inputs, by digest"] = _text(inputs())
    text["features"] = _text(answers.card["extractor"])
    made_by = {key: answers.card[key] for key in ("recipe", "made_by", "calibration")}
    text["classifier"] = _text(made_by)
    return text


def _text(value: Any) -> str:
    return pretty(value).decode().rstrip()


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows = list(rows)
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def expected(context: Context) -> dict[str, Any]:
    """Give what the results' manifest says, as far as inputs decide it."""
    return {
        "stage": "validate",
        "recipe": recipes.validate(context.params).digest,
        "inputs": inputs(),
        "made_from": piece(context).input,
    }


def publish(context: Context, target: Piece, facts: dict[str, Any]) -> str:
    """Put `results/` together; give the headline."""
    record = context.store.record(target)
    files = {
        name.replace("@", "/"): Out(kept.sha256, partial(context.store.read, target, name))
        for name, kept in record.files.items()
    }
    outs.publish(RESULTS, files, {**facts, "files": sorted(files)})
    found = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    return (
        f"validate: accuracy {found['accuracy']:.3f} "
        f"({found['accuracy_low']:.3f} to {found['accuracy_high']:.3f}), "
        f"balanced accuracy {found['balanced_accuracy']:.3f}, {found['n_validation']:,} chips"
    )
