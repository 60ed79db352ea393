"""Images with the same bytes in different splits: a leak that groups do not show."""

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
        shown = _chips(data, duplicates.head(_pairs.N_SHOWN))
        if data.validate.gallery_size and (items := _pairs.pictured(data, shown, _caption)):
            blocks.append(Gallery(items, "The first labelled chip of each", "pairs"))
    else:
        blocks.append(Text("Checked: no image has the same bytes as an image of another split."))
    return Result(
        metrics={"n_exact_duplicates": n},
        tables={"exact_duplicates": duplicates},
        notes=notes,
        sections=[ReportSection("splits", "", blocks)],
    )


def _chips(data: ValidationData, duplicates: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the first labelled chip of both images of each pair, as _pairs.pictured takes them."""
    rows = []
    for key, split, other, other_split in duplicates.to_numpy().tolist():
        pair: dict[str, Any] = {}
        for prefix, wanted in (("", (key, split)), ("near_", (other, other_split))):
            chips = data.labels.filter(pc.equal(data.labels["key"], wanted[0]))
            chips = chips.filter(pc.equal(chips["split"], wanted[1]))
            first = chips.sort_by([("row", "ascending"), ("col", "ascending")]).slice(0, 1)
            pair |= {f"{prefix}{name}": value for name, value in first.to_pylist()[0].items()}
        for name in ("chip_id", "near_chip_id"):
            pair[name] = pair[name].hex()
        rows.append(pair)
    return rows


def _caption(row: dict[str, Any]) -> Markup:
    return _pairs.labels(row) + _pairs.places(row)


def find(images: pa.Table, labels: pa.Table) -> pd.DataFrame:
    """Find images with labelled chips whose bytes are in another split under another key.

    Args:
        images: `key` and `version` of the images that have chips; equal versions are equal bytes.
        labels: schemas.LABELS.

    Returns:
        `key`, `split`, `duplicate_of` and `duplicate_of_split`, one row for each pair, sorted. Of a
        picture with many copies, each is paired with the first two of every other split.
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
    places = places.sort_values("key")
    # Two of each split: the first may be the image itself, which can be in several splits.
    others = places.groupby(["version", "split"]).head(2)
    pairs = places.merge(others, on="version", suffixes=("", "_other"))
    pairs = pairs[(pairs["key"] != pairs["key_other"]) & (pairs["split"] != pairs["split_other"])]
    names = ["key", "split", "duplicate_of", "duplicate_of_split"]
    sides = ["key", "split"], ["key_other", "split_other"]
    is_first = pairs["key"] < pairs["key_other"]
    ordered = (
        pairs.loc[chosen, [*one, *other]].set_axis(names, axis=1)
        for chosen, (one, other) in ((is_first, sides), (~is_first, sides[::-1]))
    )
    leaks = pd.concat(list(ordered)).drop_duplicates()
    return leaks.sort_values(names, ignore_index=True)
