"""Background: unannotated chips, some of which get a label of their own to train on.

Every choice goes by a hash of the chip's place. The order of the images has no influence, and more
images only move the limit up to which chips are chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import background_at, background_place
from pipeline.core.rejects import Reject

TRIES = 20
"""Places that are tried for each window: an image may be full of annotations."""

Row = dict[str, Any]


def places(images: pa.Table, annotations: pa.Table, size: int, count: int) -> pa.Table:
    """Return unlabelled points, as schemas.ANNOTATIONS: *count* in each image, if they fit.

    Their windows, of *size* pixels, overlap no other window around a point of *annotations*, and
    extend beyond the border only in an image that is smaller than a window.
    """
    taken: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    columns = (annotations[name].to_pylist() for name in ("key", "row", "col"))
    for key, row, col in zip(*columns, strict=True):
        taken[key].append((row, col))
    sizes = zip(*(images[name].to_pylist() for name in ("key", "height", "width")), strict=True)
    rows = [
        {"key": key, "row": row, "col": col}
        for key, *shape in sizes
        for row, col in _free(key, shape, taken[key], size, count)
    ]
    return pa.Table.from_pylist(rows, schemas.ANNOTATIONS)


def _free(
    key: str, shape: Sequence[int], taken: list[tuple[int, int]], size: int, count: int
) -> Iterator[tuple[int, int]]:
    """Yield *count* free points of an image, and add them to *taken*."""
    enough = len(taken) + count
    for number in range(TRIES * count):
        if len(taken) == enough:
            return
        shares = background_place(key, number)
        row, col = (_middle(*pair, size) for pair in zip(shares, shape, strict=True))
        if all(max(abs(row - r), abs(col - c)) >= size for r, c in taken):
            taken.append((row, col))
            yield row, col


def _middle(share: float, length: int, size: int) -> int:
    """Return the pixel at *share* of the way along an axis, among those whose window is inside."""
    if length <= size:
        return length // 2
    return int(share * (length - size + 1)) + (size + 1) // 2  # as in windows.around


def label(
    labels: pa.Table,
    chips: pa.Table,
    rejected: Sequence[Reject],
    params: AnnotationParams,
    touched: pa.Array | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Label some of the unlabelled chips as background.

    A chosen chip stays in its group, which is that of its image: an image of several groups has no
    background, as nobody has said which of them it would be in. Nor is there any where an
    annotation was rejected: somebody has seen something there.

    Args:
        labels: schemas.LABELS.
        chips: schemas.CHIPS, the same ones.
        rejected: rejected annotations.
        params: the annotations section.
        touched: ids of chips that an annotated object overlaps: not background either.

    Returns:
        schemas.LABELS; and for the manifest the label and the numbers of candidates and chosen.

    Raises:
        InputError: annotations have the background's label.
    """
    name = params.background_label
    if not params.background:
        return labels, {}
    if pc.any(pc.equal(labels["label"], name)).as_py():
        raise InputError(
            f"annotations.background_label: {name!r} is a label that annotations have; set "
            "another, so that chosen chips can be told from annotated ones"
        )
    labelled, others = (labels.filter(kind(labels["label"])) for kind in (pc.is_valid, pc.is_null))
    free = others.filter(pc.is_in(others["key"], value_set=_keys_of_one_group(labels)))
    excluded = _rejected_chips(chips, rejected)
    if touched is not None:
        excluded = pa.concat_arrays([excluded, touched])
    free = free.filter(pc.invert(pc.is_in(free["chip_id"], value_set=excluded)))
    columns = (free[column].to_pylist() for column in ("key", "row", "col"))
    seed = params.background_seed
    drawn = [background_at(key, row, col, seed) for key, row, col in zip(*columns, strict=True)]
    lowest = sorted(range(len(drawn)), key=drawn.__getitem__)
    chosen = free.take(pa.array(lowest[: int(params.background * labelled.num_rows)], pa.int64()))
    rows = [{**row, "label": name} for row in chosen.to_pylist()]
    left = labels.filter(pc.invert(pc.is_in(labels["chip_id"], value_set=chosen["chip_id"])))
    table = pa.concat_tables([left, pa.Table.from_pylist(rows, schemas.LABELS)])
    counts = {"label": name, "candidates": free.num_rows, "chosen": len(rows)}
    return schemas.conform(table, schemas.LABELS), counts


def _keys_of_one_group(labels: pa.Table) -> pa.ChunkedArray:
    """Return the keys of the images whose chips are all in one group."""
    groups = (
        labels.select(["key", "group"]).group_by("key").aggregate([("group", "count_distinct")])
    )
    return groups.filter(pc.equal(groups["group_count_distinct"], 1))["key"]


def _rejected_chips(chips: pa.Table, rejected: Sequence[Reject]) -> pa.Array:
    """Return the ids of the chips whose image, or a pixel in whose window, is a reject's."""
    of_key: defaultdict[str, list[Reject]] = defaultdict(list)
    for reject in rejected:
        of_key[reject.key].append(reject)
    near = chips.filter(pc.is_in(chips["key"], value_set=pa.array(list(of_key), pa.string())))
    ids = [
        chip["chip_id"]
        for chip in near.to_pylist()
        if any(_is_about(reject, chip) for reject in of_key[chip["key"]])
    ]
    return pa.array(ids, schemas.CHIP_ID)


def _is_about(reject: Reject, chip: Row) -> bool:
    if reject.row is None or reject.col is None:
        return True
    down, across = reject.row - chip["top"], reject.col - chip["left"]
    return bool(0 <= down < chip["height"] and 0 <= across < chip["width"])
