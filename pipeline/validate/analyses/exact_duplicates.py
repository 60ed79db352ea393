"""Images with the same bytes in different splits: a leak that groups do not show."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Block, Kind, ReportSection, Table, Text

ORDER = 72
MAX_ROWS = 50

METRICS = {"n_exact_duplicates": Metric("pairs of images of different splits with the same bytes")}


def analyse(data: ValidationData) -> Result:
    """List the images whose bytes are in another split, too."""
    duplicates = find(data.images, data.labels)
    n = len(duplicates)
    blocks: list[Block] = []
    notes = []
    if n:
        pairs = f"{pluralize(n, 'pairs')} of images"
        notes.append(
            f"{pairs} in different splits {'has' if n == 1 else 'have'} the same bytes under two "
            "keys: the classifier was trained on what it is evaluated on. Put such images into "
            "one group, or remove one of them."
        )
        headings = ("Image", "Split", "Duplicate of", "Split of that")
        columns: dict[str, Kind] = dict.fromkeys(headings, "text")
        rows = duplicates.head(MAX_ROWS).to_numpy().tolist()
        caption = "Images with the same bytes under two keys, in different splits" + (
            f"; the first {MAX_ROWS} of {n:,}." if n > MAX_ROWS else "."
        )
        blocks.append(Table("Exact duplicates", columns, rows, caption, "Exact duplicates"))
    else:
        blocks.append(Text("Checked: no image has the same bytes as an image of another split."))
    return Result(
        metrics={"n_exact_duplicates": n},
        tables={"exact_duplicates": duplicates},
        notes=notes,
        sections=[ReportSection("splits", "", blocks)],
    )


def find(images: pa.Table, labels: pa.Table) -> pd.DataFrame:
    """Find images with labelled chips whose bytes are in another split under another key.

    Args:
        images: `key` and `version` of the images that have chips; equal versions are equal bytes.
        labels: schemas.LABELS.

    Returns:
        `key`, `split`, `duplicate_of` and `duplicate_of_split`, one row for each pair, sorted.
    """
    versions = images.group_by("version").aggregate([("key", "count_distinct")])
    several = versions.filter(pc.greater(versions["key_count_distinct"], 1))["version"]
    candidates = images.filter(pc.is_in(images["version"], value_set=several))
    places = (
        labels.filter(pc.is_valid(labels["label"]))
        .select(["key", "split"])
        .join(candidates, "key", join_type="inner")
        .group_by(["key", "split", "version"])
        .aggregate([])
        .to_pandas()
    )
    pairs = places.merge(places, on="version", suffixes=("", "_other"))
    is_leak = (pairs["key"] < pairs["key_other"]) & (pairs["split"] != pairs["split_other"])
    names = {"key_other": "duplicate_of", "split_other": "duplicate_of_split"}
    leaks = pairs[is_leak].rename(columns=names)[["key", "split", *names.values()]]
    return leaks.sort_values(list(leaks.columns), ignore_index=True)
