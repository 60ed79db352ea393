"""Rejects: rows that could not be used, each with a short reason and a detail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import pyarrow as pa

from pipeline.core import schemas
from pipeline.core.errors import Rejected, TooManyRejects

REASONS: dict[str, str] = {
    "corrupt": "the object's bytes do not have the digest that its ETag states, at every try",
    "feature_conflict": "the table of features has two different rows for this point",
    "forbidden": "the bucket does not allow this object to be read",
    "decoder_died": "the process that decoded the image crashed",
    "doubled_window": "the same window of the same image is listed twice",
    "label_conflict": "the same pixel or image has two different labels",
    "no_data": "more of the chip is no-data than chip.max_nodata allows",
    "no_feature": "the table of features has no row for this point, or values that are not finite",
    "no_group": "a label without a group, in an image whose annotations name several groups",
    "no_mask": "the image has no mask under the name in chip.nodata, or one of another size",
    "no_such_image": "an annotation or a table names an image that is not in the index",
    "no_window": "the annotated pixel is in no window of the table",
    "no_shape": "chip.method needs a point or box that the annotation does not have",
    "not_a_box": "the box, outline or mask has no pixels, or is of a kind that is not read",
    "not_a_pixel": "the row or column is not a whole number",
    "not_an_image": "no decoder recognises the object as an image",
    "other_size": "the annotated image has another size than the one in the bucket",
    "points_outside": "the point lies outside its image",
    "said_again": "another line has the same label for the same place, or more, and is kept",
    "session_name": "the session's name has an impossible place or day; its chips are kept",
    "too_slow": "the image was not decoded within the time limit",
    "too_many_bytes": "the object is larger than bucket.max_bytes",
    "too_many_pixels": "the image has more pixels than bucket.max_pixels",
    "truncated": "the image's data end early or are damaged",
    "unconfirmed": "the label is a machine's and not confirmed",
    "unreadable": "the disk or the file system cannot read the object's bytes",
    "unreadable_row": "the line of the annotation file, or of a table of windows, cannot be read",
    "unreadable_table": "the line's table of windows is of a kind that is not read",
    "unsupported": "the image is of a kind that is not supported",
    "vanished": "the object was listed and then deleted",
    "window_outside": "the listed window reaches over its image's border, or the object is outside",
}

DELIBERATE = frozenset({"no_data", "no_shape", "said_again", "unconfirmed"})
"""Reasons that a setting requests, or that lose nothing: not counted against max_rejects."""

TRANSIENT = frozenset({"corrupt", "forbidden", "unreadable", "vanished"})
"""Faults of the bucket, not of the image: the next run tries again."""

MEANING = {
    "n_rejects_index": "objects of the bucket that are no images that can be used",
    "n_rejects_chip": "annotations that name no place on an image, or contradict others",
    "n_rejects_extract": "chips whose image cannot be decoded",
}
"""The counts in all_metrics.json, and what they count; DELIBERATE reasons are left out."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One row left out; *row* and *col* are None for a whole image."""

    stage: str
    key: str
    reason: str
    detail: str
    row: int | None = None
    col: int | None = None


def table(rejects: Iterable[Reject]) -> pa.Table:
    """Return *rejects* as a sorted table without repeats."""
    rows: list[dict[str, Any]] = []
    for reject in set(rejects):
        if reject.reason not in REASONS:
            raise KeyError(reject.reason)
        rows.append({name: getattr(reject, name) for name in schemas.REJECTS.names})
    return sort(pa.Table.from_pylist(rows, schema=schemas.REJECTS))


def sort(rejected: pa.Table) -> pa.Table:
    """Return a rejects table sorted by all of its columns: equal rows are equal bytes."""
    return schemas.conform(rejected, schemas.REJECTS, tuple(schemas.REJECTS.names))


def message(key: str, why: Rejected) -> str:
    """Return why *key* cannot be used, with the key."""
    return why.detail if key in why.detail else f"{key}: {why.detail}"


def are_transient(rejected: pa.Table) -> bool:
    """Return True if another run may be able to use some of these rows."""
    return not TRANSIENT.isdisjoint(rejected["reason"].to_pylist())


def count_by_reason(rejected: pa.Table) -> dict[str, int]:
    """Return the number of rejects by reason, commonest first, then by name."""
    counted = Counter(rejected["reason"].to_pylist())
    return dict(sorted(sorted(counted.items()), key=itemgetter(1), reverse=True))


def metrics(rejected: pa.Table) -> dict[str, int]:
    """Return the number of rejects by stage, under the names of MEANING."""
    rows = rejected.to_pylist()
    by_stage = Counter(row["stage"] for row in rows if row["reason"] not in DELIBERATE)
    return {name: by_stage[name.removeprefix("n_rejects_")] for name in MEANING}


def check_limit(
    rejected: pa.Table, *, out_of: int, setting: str, limit: float
) -> TooManyRejects | None:
    """Return the error to stop with if more than the share *limit* was rejected; else None.

    Its message has the reasons, their counts and the first row of each.

    Args:
        rejected: schemas.REJECTS of one stage.
        out_of: the number of rows that the stage read.
        setting: the name of the setting with the *limit*, for the message.
        limit: a share, 0 to 1.
    """
    counted = {why: n for why, n in count_by_reason(rejected).items() if why not in DELIBERATE}
    total = sum(counted.values())
    if not total or total <= limit * out_of:
        return None
    firsts = {row["reason"]: row for row in reversed(rejected.to_pylist())}
    lines = [f"  {n:>9,}  {why:<16} first: {firsts[why]['detail']}" for why, n in counted.items()]
    share = total / max(out_of, 1)
    stage = rejected["stage"][0].as_py()
    return TooManyRejects(
        f"{stage}: {total:,} of {out_of:,} rows rejected ({share:.3f}), over {setting} {limit}; "
        f"fix them, or set {setting} higher:\n" + "\n".join(lines)
    )
