"""Annotate: collect the classifier's predictions, or people's labels, for an annotation format."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotations import default_frame, label_separator
from pipeline.annotations import frame as frame_of
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.chip import methods
from pipeline.config import registry
from pipeline.config.loader import Params
from pipeline.config.sections import AnnotationParams
from pipeline.core.errors import InputError
from pipeline.store import outputs, tables
from pipeline.store.outputs import CLASSIFIER, RESULTS
from pipeline.train import labelled_features
from pipeline.train import model as classifiers
from pipeline.train.model import Classifier
from pipeline.validate import predictions

Choice = Literal["label_issues", "validation", "unlabelled", "all", "labels"]
CHOICES: tuple[str, ...] = get_args(Choice)

ToWrite = tuple[str | None, float | None]
"""A label, and its score if it is the classifier's."""


def formats() -> list[str]:
    """Return the names of the annotation formats that can be written."""
    names = registry.names("annotations")
    return [name for name in names if hasattr(_format(name), "write")]


def _format(name: str) -> Any:
    return registry.find("annotations", name, key="annotations.format")


def encode(name: str, annotations: WrittenAnnotations, params: AnnotationParams) -> bytes:
    """Return *annotations* as a file in the format *name*.

    Places are in the frame of the annotation file if it is of that format, as *params* have it,
    else in the format's own.

    Raises:
        InputError: the format cannot express them.
    """
    frame = frame_of(params) if params.format == name else default_frame(name)
    if frame == "displayed":
        rows, others = (
            sorted((chip.displayed() for chip in chips), key=attrgetter("key", "row", "col"))
            for chips in (annotations.rows, annotations.others)
        )
        annotations = replace(annotations, rows=rows, others=others)
    data: bytes = _format(name).write(annotations)
    return data


def collect(
    params: Params, choice: Choice, min_score: float, url: str | None
) -> WrittenAnnotations:
    """Collect the annotations to write, from the outs of the stages.

    Args:
        params: params.yaml.
        choice: "label_issues", labels that may be wrong; "validation", all chips of that split;
            "unlabelled"; "all"; or "labels", people's labels, of all labelled chips.
        min_score: predictions with a lower score are left out, as if there were none.
        url: the address of the images; None: `bucket.url`.

    Raises:
        InputError: a stage has not run, or there is no such chip.
    """
    labels = tables.labels()
    is_chosen = _is_chosen(labels, choice)
    chosen = labels.filter(is_chosen)
    if not chosen.num_rows:
        raise InputError(f"annotations: there are no chips to write ({choice})")
    model = ""
    to_write: dict[bytes, ToWrite] = {
        row["chip_id"]: (row["label"], None) for row in chosen.to_pylist()
    }
    if choice != "labels":
        classifier = classifiers.read(CLASSIFIER)
        model = f"quadrat {classifier.card['recipe'][:12]}"
        # What was trained on a label would repeat it.
        held_out = classifiers.read_held_out(CLASSIFIER, classifier)
        is_calibration = pc.equal(chosen["split"], "calibration")
        to_write = {
            **_predictions(chosen.filter(pc.invert(is_calibration)), classifier, min_score),
            **_predictions(chosen.filter(is_calibration), held_out, min_score),
        }
    shares_image = pc.is_in(labels["key"], value_set=pc.unique(chosen["key"]))
    chips = _chips(labels.filter(shares_image), to_write)
    flags = pc.filter(is_chosen, shares_image).to_pylist()
    return WrittenAnnotations(
        rows=[chip for chip, flag in zip(chips, flags, strict=True) if flag],
        others=[chip for chip, flag in zip(chips, flags, strict=True) if not flag],
        prefix=getattr(params.annotations, "prefix", ""),
        separator=label_separator(params.annotations),
        url=params.bucket.url if url is None else url,
        model=model,
        at_points=methods.find(params.chip).LEVEL == "point",
    )


def _is_chosen(labels: pa.Table, choice: Choice) -> Any:
    """Return which rows of *labels* are to be written, bool [n]."""
    if choice == "unlabelled":
        return pc.is_null(labels["label"])
    if choice == "labels":
        return pc.is_valid(labels["label"])
    if choice == "validation":
        return pc.and_(pc.equal(labels["split"], "validation"), pc.is_valid(labels["label"]))
    if choice == "all":
        return pc.is_valid(labels["chip_id"])
    outputs.require_manifest(RESULTS)
    with (RESULTS / "tables" / "label_issues.csv").open(encoding="utf-8", newline="") as stream:
        issues = [bytes.fromhex(row["chip_id"]) for row in csv.DictReader(stream)]
    return pc.is_in(labels["chip_id"], value_set=pa.array(issues, labels["chip_id"].type))


def _predictions(
    chosen: pa.Table, classifier: Classifier, min_score: float
) -> dict[bytes, ToWrite]:
    """Return the prediction for each chip and its score, from *min_score* on, by chip_id."""
    chips = labelled_features.of_rows(chosen)
    predicted, scores = predictions.predict_unlabelled(classifier, chips)
    ids = chips.labels["chip_id"].to_pylist()
    rows = zip(ids, predicted, scores.tolist(), strict=True)
    return {chip_id: (label, score) for chip_id, label, score in rows if score >= min_score}


def _chips(labels: pa.Table, to_write: Mapping[bytes, ToWrite]) -> list[AnnotatedChip]:
    """Return a chip for each row of *labels*, with its window and the size of its image."""
    keys = pc.unique(labels["key"])
    images = tables.images(["key", "height", "width", "orientation"])
    images = images.filter(pc.is_in(images["key"], value_set=keys))
    image_of = {row["key"]: row for row in images.to_pylist()}
    windows = {}
    for shard in tables.chips(["chip_id", "key", "top", "left", "height", "width"]):
        for row in shard.filter(pc.is_in(shard["key"], value_set=keys)).to_pylist():
            windows[row["chip_id"]] = (row["top"], row["left"], row["height"], row["width"])
    chips = []
    for row in labels.to_pylist():
        label_to_write, score = to_write.get(row["chip_id"], (None, None))
        chips.append(
            AnnotatedChip(
                key=row["key"],
                row=row["row"],
                col=row["col"],
                window=windows[row["chip_id"]],
                image_height=image_of[row["key"]]["height"],
                image_width=image_of[row["key"]]["width"],
                label=row["label"],
                label_to_write=label_to_write,
                score=score,
                orientation=image_of[row["key"]]["orientation"],
            )
        )
    return chips
