"""Annotate: answers about chips, or people's labels, gathered for an annotation format to write."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotations import label_separator
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.chip import methods
from pipeline.config import registry
from pipeline.config.loader import Params
from pipeline.core.errors import InputError
from pipeline.store import outputs, tables
from pipeline.store.outputs import CLASSIFIER, RESULTS
from pipeline.train import labelled_features
from pipeline.train import model as _artifact
from pipeline.train.model import Classifier
from pipeline.validate import predictions

Which = Literal["suspects", "validation", "unlabelled", "all", "labels"]
CHOICES: tuple[str, ...] = get_args(Which)

Said = tuple[str | None, float | None]
NOTHING: Said = (None, None)


def formats() -> list[str]:
    """List the annotation formats that can be written."""
    names = registry.names("annotations")
    return [name for name in names if hasattr(_format(name), "write")]


def _format(name: str) -> Any:
    return registry.find("annotations", name, key="annotations.format")


def write(name: str, answers: WrittenAnnotations) -> bytes:
    """Give *answers* in the format *name*.

    Raises:
        InputError: the format cannot say them.
    """
    data: bytes = _format(name).write(answers)
    return data


def answers(params: Params, which: Which, least: float, url: str | None) -> WrittenAnnotations:
    """Gather what is said of chips.

    Args:
        params: params.yaml; what stages have made by it is read from their outs.
        which: "suspects", labels that may be wrong; "validation", all chips of that split;
            "unlabelled"; "all"; or "labels", what people have said, of all labelled chips.
        least: answers with a lower score are left out, as if there were none.
        url: the address of the images; None: `bucket.url`.

    Raises:
        InputError: a stage has not run, or there is no such chip.
    """
    labels = tables.labels()
    chosen = labels.filter(_chosen(labels, which))
    if not chosen.num_rows:
        raise InputError(f"annotations: there are no chips to write ({which})")
    same = pc.is_in(labels["key"], value_set=pc.unique(chosen["key"]))
    mine = pc.is_in(labels["chip_id"], value_set=chosen["chip_id"].combine_chunks())
    others = labels.filter(pc.and_(same, pc.invert(mine)))
    beside = _Beside(chosen["key"])
    model = ""
    if which == "labels":
        told: list[Said] = [(label, None) for label in chosen["label"].to_pylist()]
    else:
        classifier = _artifact.read(CLASSIFIER)
        told = [one if one[1] >= least else NOTHING for one in _told(chosen, classifier)]
        model = f"quadrat {classifier.card['recipe'][:12]}"
    return WrittenAnnotations(
        rows=beside.chips(chosen, told),
        others=beside.chips(others, [NOTHING] * others.num_rows),
        prefix=getattr(params.annotations, "prefix", ""),
        separator=label_separator(params.annotations),
        url=params.bucket.url if url is None else url,
        model=model,
        at_points=methods.find(params.chip).LEVEL == "point",
    )


def _told(chosen: pa.Table, classifier: Classifier) -> Iterator[tuple[str | None, float]]:
    """Give the answer about each chip, and its score; none, at no score, of unreadable images."""
    found = labelled_features.of_rows(chosen)
    predicted, score = predictions.predict_unlabelled(classifier, found)
    answered = zip(predicted, score.tolist(), strict=True)
    known = dict(zip(found.labels["chip_id"].to_pylist(), answered, strict=True))
    for identity in chosen["chip_id"].to_pylist():
        yield known.get(identity, (None, -math.inf))


def _chosen(labels: pa.Table, which: Which) -> Any:
    if which == "unlabelled":
        return pc.is_null(labels["label"])
    if which == "labels":
        return pc.is_valid(labels["label"])
    if which == "validation":
        return pc.and_(pc.equal(labels["split"], "validation"), pc.is_valid(labels["label"]))
    if which == "all":
        return pa.array([True] * labels.num_rows, pa.bool_())
    outputs.require_manifest(RESULTS)
    with (RESULTS / "tables" / "label_issues.csv").open(encoding="utf-8", newline="") as stream:
        doubted = [bytes.fromhex(row["chip_id"]) for row in csv.DictReader(stream)]
    return pc.is_in(labels["chip_id"], value_set=pa.array(doubted, labels["chip_id"].type))


class _Beside:
    """Windows of chips, and sizes of images.

    Args:
        keys: of the images.
    """

    def __init__(self, keys: pa.ChunkedArray) -> None:
        of = pc.unique(keys)
        self.windows: dict[bytes, tuple[int, int, int, int]] = {}
        names = ["chip_id", "top", "left", "height", "width"]
        for table in tables.chips():
            own = table.filter(pc.is_in(table["key"], value_set=of)).select(names)
            columns = (column.to_pylist() for column in own.columns)
            for identity, top, left, height, width in zip(*columns, strict=True):
                self.windows[identity] = (top, left, height, width)
        table = tables.images(["key", "height", "width"])
        own = table.filter(pc.is_in(table["key"], value_set=of))
        self.sizes = {row["key"]: (row["height"], row["width"]) for row in own.to_pylist()}

    def chips(self, labels: pa.Table, told: Sequence[Said]) -> list[AnnotatedChip]:
        """Put together what is known of each row of *labels* and what is *told* of it."""
        return [
            AnnotatedChip(
                key=row["key"],
                row=row["row"],
                col=row["col"],
                window=self.windows[row["chip_id"]],
                image_height=self.sizes[row["key"]][0],
                image_width=self.sizes[row["key"]][1],
                label=row["label"],
                label_to_write=answer,
                score=score,
            )
            for row, (answer, score) in zip(labels.to_pylist(), told, strict=True)
        ]
