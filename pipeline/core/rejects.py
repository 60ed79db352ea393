"""Rows that could not be used: why, in a short code and a sentence, counted and never silent."""

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
    "corrupt": "the object's bytes are not those that its ETag is the digest of, at every try",
    "feature_conflict": "the table of features has two for this point that differ",
    "forbidden": "the bucket does not let this object be read",
    "decoder_died": "the image killed the process that decoded it, as only a broken one does",
    "doubled_window": "the same window of the same image is listed twice",
    "label_conflict": "the same pixel or image has two different labels",
    "no_data": "more of the chip is no-data than chip.max_nodata allows",
    "no_feature": "the table of features has none for this point, or one that is not finite",
    "no_mask": "the image has no mask where chip.nodata says, or one of another size",
    "no_such_image": "an annotation or a table names an image that is not in the index",
    "no_window": "the annotated pixel lies in no window that a table lists",
    "no_shape": "chip.method asks for a place that the annotation does not have",
    "not_a_box": "the box, outline or mask has no pixels, or is of a kind that is not read",
    "not_a_pixel": "the row or column is not a whole number",
    "not_an_image": "no decoder knows the object as an image",
    "other_size": "the annotated image has another size than the one in the bucket",
    "points_outside": "the point lies outside its image",
    "said_again": "another line says the same of the same place, or more, and is kept",
    "session_name": "the session's name has a place or day that cannot be; chips stay",
    "too_slow": "the image was not decoded within its time",
    "too_many_bytes": "the object is larger than bucket.max_bytes",
    "too_many_pixels": "the image has more pixels than bucket.max_pixels",
    "truncated": "the image's data end early or are damaged",
    "unconfirmed": "the label is a machine's and nobody has confirmed it",
    "unreadable": "the disk or the file system has lost the object's bytes",
    "unreadable_row": "the line of the annotation file, or of a table of windows, cannot be read",
    "unreadable_table": "the line's table of windows is of a kind that is not read",
    "unsupported": "the image is of a kind whose pixels are not defined here",
    "vanished": "the object was listed, and then it was not there",
    "window_outside": "the listed window reaches out of its image, or the object lies outside",
}

DELIBERATE = frozenset({"no_data", "no_shape", "said_again", "unconfirmed"})
"""Reasons that a setting asked for, or that lose nothing: not counted against max_rejects."""

TRANSIENT = frozenset({"corrupt", "forbidden", "unreadable", "vanished"})
"""Reasons that lie in the bucket and not in the image: the next run asks again."""


MEANING = {
    "n_rejects_index": "objects of the bucket that are no images that can be used",
    "n_rejects_chip": "annotations that name no place on an image, or contradict others",
    "n_rejects_extract": "chips whose image cannot be decoded",
}
"""What all_metrics.json says of what was left out, without what a setting asked to leave out."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One row left out; *row* and *col* are None where a whole image is meant."""

    stage: str
    key: str
    reason: str
    detail: str
    row: int | None = None
    col: int | None = None


def table(rejects: Iterable[Reject]) -> pa.Table:
    """Make the rejects table out of *rejects*, in its own order and free of repeats."""
    rows: list[dict[str, Any]] = []
    for reject in set(rejects):
        if reject.reason not in REASONS:
            raise KeyError(reject.reason)
        rows.append({name: getattr(reject, name) for name in schemas.REJECTS.names})
    return sort(pa.Table.from_pylist(rows, schema=schemas.REJECTS))


def sort(rejected: pa.Table) -> pa.Table:
    """Sort a rejects table by all of its columns, so that its bytes repeat."""
    return schemas.conform(rejected, schemas.REJECTS, tuple(schemas.REJECTS.names))


def message(key: str, why: Rejected) -> str:
    """Give why *key* cannot be used, with its name."""
    return why.detail if key in why.detail else f"{key}: {why.detail}"


def are_transient(rejected: pa.Table) -> bool:
    """Say whether another run may have some of what this one could not have."""
    return not TRANSIENT.isdisjoint(rejected["reason"].to_pylist())


def count_by_reason(rejected: pa.Table) -> dict[str, int]:
    """Count *rejected* by reason, commonest first, then by name."""
    counted = Counter(rejected["reason"].to_pylist())
    return dict(sorted(sorted(counted.items()), key=itemgetter(1), reverse=True))


def metrics(rejected: pa.Table) -> dict[str, int]:
    """Count *rejected* by stage, under the names of MEANING."""
    counting = [row for row in rejected.to_pylist() if row["reason"] not in DELIBERATE]
    by_stage = Counter(row["stage"] for row in counting)
    return {name: by_stage[name.removeprefix("n_rejects_")] for name in MEANING}


def check_limit(
    rejected: pa.Table, *, out_of: int, setting: str, limit: float
) -> TooManyRejects | None:
    """Judge whether the share of rejects is over *limit*.

    Args:
        rejected: schemas.REJECTS of one stage.
        out_of: rows that the stage was given.
        setting: the stage's section and `max_rejects`, for the message.
        limit: what that setting says.

    Returns:
        The error to stop with, with the reasons, their counts and the first row of each; or None.
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
        f"mend them, or set {setting} higher:\n" + "\n".join(lines)
    )
