"""Chips of different splits that share pixels, and images that are in more than one split."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result, _pairs
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Block, Gallery, Kind, ReportSection, Table, Text
from pipeline.validate.report.page import share

ORDER = 71
MAX_ROWS = 20

METRICS = {
    "n_divided_images": Metric("images with labelled chips in more than one split"),
    "n_overlapping_chips": Metric(
        "validation chips that share pixels with a chip of the training or calibration split"
    ),
}

REMEDY = "Give all annotations of an image one group, or set split.by: image."


def analyse(data: ValidationData) -> Result:
    """Count the images in several splits and the chips that overlap, and show the first of them."""
    divided, found = divided_images(data.labels), data.overlaps
    blocks: list[Block] = []
    notes = []
    if len(divided):
        blocks.append(_table(divided))
    else:
        blocks.append(Text("Checked: no image has chips in more than one split."))
    if found.n:
        notes.append(
            f"{pluralize(found.n, 'validation chips')} {'shares' if found.n == 1 else 'share'} "
            "pixels with a chip that the classifier was trained on, half of them "
            f"{share(found.median)} of their pixels or more: every metric here is too good. "
            f"{REMEDY}"
        )
        rows = found.table.head(_pairs.N_SHOWN).to_dict("records")
        if data.validate.gallery_size and (items := _pairs.pictured(data, rows, _caption)):
            blocks.append(
                Text(
                    "On the left is a validation chip, on the right the chip of the training or "
                    "calibration split with which it shares most pixels. "
                    "results/tables/overlapping_chips.csv lists them."
                )
            )
            blocks.append(Gallery(items, "Chips that share pixels", "pairs"))
    elif len(divided):
        notes.append(
            f"{pluralize(len(divided), 'images')} {'has' if len(divided) == 1 else 'have'} chips "
            f"in more than one split. {REMEDY}"
        )
        blocks.append(Text("Checked: no two chips of different splits share a pixel."))
    return Result(
        metrics={"n_divided_images": len(divided), "n_overlapping_chips": found.n},
        tables={"divided_images": divided, "overlapping_chips": found.table},
        notes=notes,
        sections=[ReportSection("splits", "", blocks)],
    )


def divided_images(labels: pa.Table) -> pd.DataFrame:
    """Return `key` and `splits` of the images with chips in several splits; sorted by key."""
    pairs = labels.select(["key", "split"]).group_by(["key", "split"]).aggregate([])
    counts = pairs.group_by("key").aggregate([("split", "count")])
    several = counts.filter(pc.greater(counts["split_count"], 1))["key"]
    rows = pairs.filter(pc.is_in(pairs["key"], value_set=several)).to_pandas()
    rows = rows.sort_values(["key", "split"]).astype(object)
    splits = rows.groupby("key", sort=True)["split"].agg(", ".join)
    return pd.DataFrame({"key": splits.index, "splits": splits.to_numpy()})


def _table(divided: pd.DataFrame) -> Table:
    columns: dict[str, Kind] = {"Image": "text", "Splits": "text"}
    more = f"; the first {MAX_ROWS} of {len(divided):,}" if len(divided) > MAX_ROWS else ""
    caption = f"Images with chips in more than one split{more}."
    rows = divided.head(MAX_ROWS).to_numpy().tolist()
    return Table("Divided images", columns, rows, caption, "Divided images")


def _caption(row: dict[str, Any]) -> Markup:
    return _pairs.labels(row) + f"; {share(row['share'])} of its pixels" + _pairs.places(row)
