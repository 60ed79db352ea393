"""Validate: judge the classifier on the validation split, and write down how it did."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.chip import labels as of_labels
from pipeline.core import rejects, schemas
from pipeline.core.errors import Rejected, StorageError
from pipeline.core.hashing import digest
from pipeline.core.run_log import Counts
from pipeline.store import outputs, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CHIPS, CLASSIFIER, RESULTS, Out, pretty
from pipeline.train import labelled_features
from pipeline.validate import recipe as results_recipe

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.config.sections import ValidateParams
    from pipeline.validate.metrics._several import Either
    from pipeline.validate.predictions import Predictions
    from pipeline.validate.report import NearTwins, Trust

log = logging.getLogger(__name__)

TABLE = "results"
KEPT_BYTES = 512 * 2**20
"""Features that are kept once they are read: of few chips all, which are wanted five times over."""

SHOWN_TWINS = 6
"""Pairs of near twins in the report: 1.2 MB of pictures at most."""


def inputs() -> dict[str, Any]:
    """Digest what the results start from, as the manifests before them say."""
    classifier = outputs.require_manifest(CLASSIFIER)
    return {
        **labelled_features.input_digests(),
        "classifier": classifier["digests"],
        "rejects": digest(tables.rejected().to_pylist()),
    }


def piece(context: Context) -> Piece:
    """Name the results that these inputs and settings give."""
    known = {name: values.to_pylist() for name, values in _by(context).items()}
    shown = results_recipe.shown(context.params)
    made_from = digest({"inputs": inputs(), "shown": shown, **({"by": known} if known else {})})
    return Piece(TABLE, results_recipe.recipe(context.params).digest, "all", made_from)


def _by(context: Context, keys: pa.ChunkedArray | None = None) -> dict[str, pa.ChunkedArray]:
    """Give what is known by each name of `validate.by` of the images *keys*, or of all."""
    names = context.params.validate.by
    if not names:
        return {}
    images = tables.images()
    wanted = images["key"] if keys is None else keys
    return {name: of_labels.of_keys(wanted, images, name) for name in names}


def make(context: Context, target: Piece, report_progress: Report) -> None:  # noqa: ARG001
    """Predict, compute every figure, draw the report, and keep it all in the store.

    Raises:
        InputError: the validation split has no labelled chip, or the classifier cannot be read.
        StorageError: a chip of the gallery cannot be read, or its image has changed.
    """
    import pandas as pd

    from pipeline.train import model
    from pipeline.validate import compare, metrics, near_duplicates, predictions, provenance, report
    from pipeline.validate import splits as _splits
    from pipeline.validate.metrics import (
        _compared,
        _counts,
        _cover,
        _tables,
        _trust,
        _twins,
        calibration,
    )
    from pipeline.validate.report.valresult import valresult

    validate = context.params.validate
    labels = tables.labels()
    classifier = model.read(CLASSIFIER)
    to = classifier.card["labels"]["to"]
    found = labelled_features.of_splits(
        labels,
        "validation",
        "calibration",
        shards=labelled_features.FeatureShards(cache_bytes=KEPT_BYTES),
    )
    answers, held = (predictions.answers(classifier, some, to) for some in found)
    judged = answers.judged()
    trust = _trusted(judged, held, validate)
    left_out = tables.rejected()
    suspects = _suspects(answers, held)
    classes = _tables.per_class(judged, validate)
    if answers.separator is not None:
        chosen = classifier.card["calibration"].get("thresholds", {})
        classes["threshold"] = classes["label"].map(chosen)
    twins = _twins.twins(_images(), labels)
    near = near_duplicates.near(found[0], labels)
    straddling = _splits.straddling(labels)
    figures = {
        **metrics.compute(judged, validate),
        **_figures(trust, judged, validate),
        **rejects.metrics(left_out),
        **_counts.counts(judged, labels),
        "n_leaking_groups": straddling,
        "n_exact_duplicates": len(twins),
        "n_near_duplicates": len(near.table),
        "n_label_issues": len(suspects),
    }
    groups, covers = _tables.per_group(judged, validate), _cover.cover(judged, validate)
    others = compare.others(context, target, found[0], to)
    compared = _compared.compared(judged, others, validate)
    known = _by(context, answers.predictions["key"])
    by = {
        name: _tables.per_value(judged, values.to_pylist(), validate)
        for name, values in known.items()
    }
    facts = report.ReportFacts(
        title="How good is the classifier?",
        metrics=figures,
        judged=judged,
        curve=pd.read_csv(CLASSIFIER / "curve.csv"),
        classes=classes,
        groups=groups,
        covers=covers,
        trust=trust,
        n_label_issues=len(suspects),
        twins=twins,
        near=_with_pictures(context, near),
        compared=compared,
        splits=_splits.counts(labels),
        straddling=straddling,
        split_by=_splits.group_in_words(context.params.split.by),
        split_shares=_splits.shares_in_words(context.params.split),
        rejects=left_out,
        by=by,
        gallery=_gallery(context, answers, judged, suspects),
        settings=provenance.settings(context.params),
        provenance=provenance.provenance(context.params, answers.card, inputs()),
    )
    rounded = {name: round(value, 6) for name, value in figures.items()}
    csv_tables = {
        "comparison": compared,
        "confusion": _tables.confusion_rows(judged),
        "cover": covers,
        "risk_coverage": _trust.coverage(judged.decisions),
        "near_duplicates": near.table,
        "per_class": classes,
        "per_group": groups,
        "reliability": calibration.reliability(judged.pairs),
        "label_issues": suspects,
        "exact_duplicates": twins,
        **{f"by_{name}": table for name, table in by.items()},
    }
    csv_tables |= _counted(labels, to, answers.separator)
    said = valresult(answers.predictions, answers.classes, answers.separator)
    files = {
        "metrics.json": pretty(rounded),
        "predictions.parquet": schemas.to_bytes(answers.predictions),
        "valresult.json": json.dumps(said, ensure_ascii=False).encode(),
        "report.html": report.render(facts).encode(),
        **{f"tables/{name}.csv": _csv(table) for name, table in csv_tables.items()},
        **{f"plots/{name}.png": data for name, data in report.plots(facts).items()},
    }
    # A file of the store has no folders in its name.
    kept = {name.replace("/", "@"): (data, 0) for name, data in files.items()}
    context.store.describe(target.recipe, results_recipe.recipe(context.params).parts)
    context.store.put(target, kept, {"run": context.run})


def _counted(
    labels: pa.Table, to: Mapping[str, str | None], separator: str | None
) -> dict[str, pd.DataFrame]:
    """Count labels before and after the label map, and classes that chips share."""
    from pipeline.validate.metrics import _labels

    found = {
        "labels": _labels.counts(labels, to, separator),
        "classes": _labels.classes(labels, to, separator),
    }
    if separator is not None:
        found["cooccurrence"] = _labels.together(labels, to, separator)
    return found


def _trusted(judged: Either, held: Predictions, validate: ValidateParams) -> Trust | None:
    """Choose a threshold on the calibration split, and confirm it on the validation split."""
    from pipeline.validate.metrics import _trust
    from pipeline.validate.report import Trust

    if not held.predictions.num_rows:
        return None
    chosen = _trust.choose(held.judged().decisions, validate.target_accuracy)
    confirmed = _trust.confirm(judged.decisions, chosen.score)
    return Trust(validate.target_accuracy, chosen, confirmed)


def _figures(trust: Trust | None, judged: Either, validate: ValidateParams) -> dict[str, float]:
    """Give what metrics.json says of the threshold; nothing where there is none."""
    from pipeline.validate.metrics import _trust

    if trust is None or trust.chosen.score is None:
        return {}
    found = {"threshold": trust.chosen.score, "threshold_coverage": trust.confirmed.coverage}
    if trust.confirmed.accuracy is not None:
        found["threshold_accuracy"] = trust.confirmed.accuracy
    return {**found, **_trust.interval(judged.decisions, trust.chosen.score, validate)}


def _suspects(answers: Predictions, held: Predictions) -> pd.DataFrame:
    """List the labels of both splits that are likely to be wrong."""
    from pipeline.validate.metrics import _doubts

    both = replace(answers, predictions=pa.concat_tables([answers.predictions, held.predictions]))
    counts = [answers.predictions.num_rows, held.predictions.num_rows]
    splits = pa.chunked_array([np.repeat(["validation", "calibration"], counts)])
    return _doubts.table(both.judged(), both.predictions, splits, both.separator)


def _gallery(
    context: Context, answers: Predictions, judged: Either, suspects: pd.DataFrame
) -> list[Any]:
    """Choose the chips that are shown, and cut them and their surroundings out of their images."""
    from pipeline.validate.report import KINDS, GalleryItem, choose, suspected

    count = context.params.validate.gallery_size
    first = suspected(suspects, count // len(KINDS))
    shown = pa.array([chip.chip_id for chip in first], schemas.CHIP_ID)
    taken = np.asarray(pc.is_in(answers.predictions["chip_id"], value_set=shown))
    others = choose(answers.predictions, judged.chips, count - len(first), ~taken)
    chosen = first + others
    pictures = _pictures(context, [chip.chip_id for chip in chosen]) if chosen else {}
    return [
        GalleryItem(chip, pictures[chip.chip_id]) for chip in chosen if chip.chip_id in pictures
    ]


def _with_pictures(context: Context, near: NearTwins) -> NearTwins:
    """Cut the first of the near twins out of their images, where the gallery shows any."""
    if not context.params.validate.gallery_size:
        return near
    first = near.table[["chip_id", "near_chip_id"]].head(SHOWN_TWINS).to_numpy()
    pairs = [(bytes.fromhex(chip), bytes.fromhex(other)) for chip, other in first]
    found = _pictures(context, sorted({chip for pair in pairs for chip in pair})) if pairs else {}
    pictures = {
        row: (found[chip], found[other])
        for row, (chip, other) in enumerate(pairs)
        if chip in found and other in found
    }
    return near._replace(pictures=pictures)


def _images() -> pa.Table:
    """Give `key` and `version` of the images that have chips."""
    columns = ["key", "version"]
    parts = (pq.read_table(path, columns=columns).group_by(columns) for path in _chips())
    return pa.concat_tables([part.aggregate([]) for part in parts])


def _chips() -> list[Path]:
    return outputs.shard_paths(CHIPS)


def _pictures(context: Context, wanted: Sequence[bytes]) -> dict[bytes, bytes]:
    from pipeline.images.sandbox import decoding
    from pipeline.validate import report

    storage = context.bucket
    only = pa.array(sorted(wanted), schemas.CHIP_ID)
    found: dict[bytes, bytes] = {}
    tables = (pq.read_table(path) for path in _chips())
    rows = (
        table.filter(pc.is_in(table["chip_id"], value_set=only)).to_pylist() for table in tables
    )
    with decoding(context.params.extract, isolate=context.machine.isolates_decoding) as decode:
        for (key, version), chips in groupby(
            chain(*rows), lambda row: (row["key"], row["version"])
        ):
            try:
                data = storage.read(key, if_version=version)
            except Rejected as error:
                raise StorageError(error.detail) from error
            try:
                pixels = decode(data, key)
            except Rejected as why:  # its features were made elsewhere
                log.warning("validate: %s: not shown: %s", key, why.detail)
                continue
            for row in chips:
                window = (row["top"], row["left"], row["height"], row["width"])
                found[row["chip_id"]] = report.picture(pixels, window, len(wanted))
    return found


def _csv(table: pd.DataFrame) -> bytes:
    text: str = table.round(6).to_csv(index=False, lineterminator="\n")
    return text.encode()


def expected(context: Context) -> dict[str, Any]:
    """Give what the results' manifest says, as far as inputs decide it."""
    return {
        "stage": "validate",
        "recipe": results_recipe.recipe(context.params).digest,
        "inputs": inputs(),
        "made_from": piece(context).input,
    }


def publish(context: Context, target: Piece, facts: dict[str, Any]) -> Counts:
    """Put `results/` together; give how many chips were judged, and the headline."""
    context.store.mark_used([target])
    record = context.store.record(target)
    files = {
        RESULTS / name.replace("@", "/"): Out(
            kept.sha256, partial(context.store.read, target, name)
        )
        for name, kept in record.files.items()
    }
    outputs.publish(RESULTS, files, facts, keep_others=True)
    found = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    rows = found["n_validation"]
    more = (
        f"accuracy {found['accuracy']:.3f} "
        f"({found['accuracy_low']:.3f} to {found['accuracy_high']:.3f}), "
        f"balanced accuracy {found['balanced_accuracy']:.3f}"
    )
    judged = rows if record.note["run"] == context.run else 0
    return Counts("validate", "judged chips", rows, judged, more=more)
