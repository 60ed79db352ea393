"""Images with the same bytes in different splits: a leak that no group shows."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def twins(images: pa.Table, labels: pa.Table) -> pd.DataFrame:
    """Find images whose bytes another split has learnt from, or is judged on, under another key.

    Args:
        images: `key` and `version` of the images that have chips; equal versions are equal bytes.
        labels: schemas.LABELS; only chips with a label are learnt from or judged on.

    Returns:
        `key`, `split`, `same_as` and `same_as_split`, one row a pair, sorted.
    """
    several = images.group_by("version").aggregate([("key", "count_distinct")])
    several = several.filter(pc.greater(several["key_count_distinct"], 1))
    suspects = images.filter(pc.is_in(images["version"], value_set=several["version"]))
    places = (
        labels.filter(pc.is_valid(labels["label"]))
        .select(["key", "split"])
        .join(suspects, "key", join_type="inner")
        .group_by(["key", "split", "version"])
        .aggregate([])
        .to_pandas()
    )
    pairs = places.merge(places, on="version", suffixes=("", "_other"))
    apart = (pairs["key"] < pairs["key_other"]) & (pairs["split"] != pairs["split_other"])
    names = {"key_other": "same_as", "split_other": "same_as_split"}
    found = pairs[apart].rename(columns=names)[["key", "split", "same_as", "same_as_split"]]
    return found.sort_values(list(found.columns), ignore_index=True)
