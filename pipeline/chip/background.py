"""Background: chips of what nobody has annotated, some of which are learnt from as such.

Every choice is a hash of the chip's own place: no chip is chosen or left because of the order in
which images are listed, and other images only move the limit between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import background_at, background_place
from pipeline.core.rejects import Reject

TRIES = 20
"""Places that are looked at for each window that is wanted: an image may be full of annotations."""


def places(images: pa.Table, annotations: pa.Table, size: int, count: int) -> pa.Table:
    """Give schemas.ANNOTATIONS without labels: *count* points an image, or as many as it has room.

    A window of *size* around one overlaps no other's, and reaches over no border that it need not.

    Args:
        images: schemas.IMAGES.
        annotations: schemas.ANNOTATIONS, of points.
        size: of the windows, in pixels.
        count: how many there are to be.
    """
    taken: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    columns = (annotations[name].to_pylist() for name in ("key", "row", "col"))
    for key, row, col in zip(*columns, strict=True):
        taken[key].append((row, col))
    sizes = zip(*(images[name].to_pylist() for name in ("key", "height", "width")), strict=True)
    found = [
        {"key": key, "row": row, "col": col}
        for key, height, width in sizes
        for row, col in _free(key, (height, width), taken[key], size, count)
    ]
    return pa.Table.from_pylist(found, schemas.ANNOTATIONS)


def _free(
    key: str, shape: tuple[int, int], taken: Sequence[tuple[int, int]], size: int, count: int
) -> Iterator[tuple[int, int]]:
    others = list(taken)
    for number in range(TRIES * count):
        if len(others) == len(taken) + count:
            return
        shares = background_place(key, number)
        row, col = (_middle(*pair, size) for pair in zip(shares, shape, strict=True))
        if all(max(abs(row - r), abs(col - c)) >= size for r, c in others):
            others.append((row, col))
            yield row, col


def _middle(share: float, length: int, size: int) -> int:
    """Give the pixel at *share* of the way along an axis, among those whose window lies inside."""
    if length <= size:
        return length // 2
    return int(share * (length - size + 1)) + (size + 1) // 2  # as windows.around has it


def label(
    made: pa.Table,
    chips: pa.Table,
    doubtful: Sequence[Reject],
    section: AnnotationParams,
    near: pa.Array | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Label some of the chips that nobody has labelled as background.

    One that is chosen belongs to the group, and so to the split, of the nearest labelled chip of
    its image, if there is one.

    Args:
        made: schemas.LABELS.
        chips: schemas.CHIPS, the same ones.
        doubtful: annotations that were rejected: where somebody has said something, whatever it
            was, is no background.
        section: how many are wanted for each chip that has a label, and which label they get.
        near: chips that something annotated reaches into, whatever their label: no background.

    Returns:
        schemas.LABELS; and how many could be chosen and how many were, for the manifest.

    Raises:
        InputError: people have used the background's label themselves.
    """
    name = section.background_label
    if not section.background:
        return made, {}
    if pc.any(pc.equal(made["label"], name)).as_py():
        raise InputError(
            f"annotations.background_label: {name!r} is a label that annotations have; set "
            "another, so that what was chosen can be told from what was said"
        )
    labelled, others = (made.filter(kind(made["label"])) for kind in (pc.is_valid, pc.is_null))
    spoken_of = pc.is_in(others["chip_id"], value_set=_spoken_of(chips, doubtful))
    if near is not None:
        spoken_of = pc.or_(spoken_of, pc.is_in(others["chip_id"], value_set=near))
    free = others.filter(pc.invert(spoken_of))
    places = zip(*(free[column].to_pylist() for column in ("key", "row", "col")), strict=True)
    drawn = [background_at(key, row, col, section.background_seed) for key, row, col in places]
    lowest = sorted(range(len(drawn)), key=drawn.__getitem__)
    chosen = free.take(pa.array(lowest[: int(section.background * labelled.num_rows)], pa.int64()))
    near = _by_key(labelled.filter(pc.is_in(labelled["key"], value_set=chosen["key"])))
    rows = [
        {**row, "label": name, **_nearest(near.get(row["key"], []), row)}
        for row in chosen.to_pylist()
    ]
    left = made.filter(pc.invert(pc.is_in(made["chip_id"], value_set=chosen["chip_id"])))
    whole = pa.concat_tables([left, pa.Table.from_pylist(rows, schemas.LABELS)])
    told = {"label": name, "candidates": free.num_rows, "chosen": len(rows)}
    return schemas.conform(whole, schemas.LABELS), told


def _by_key(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["key"], []).append(row)
    return found


def _nearest(near: Sequence[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    if not near:
        return {}
    away = [(other["row"] - row["row"]) ** 2 + (other["col"] - row["col"]) ** 2 for other in near]
    nearest = near[int(np.argmin(away))]
    return {"group": nearest["group"], "split": nearest["split"]}


def _spoken_of(chips: pa.Table, doubtful: Sequence[Reject]) -> pa.Array:
    """Give the chips of which, or of whose image, something was said that could not be used."""
    of_key: dict[str, list[Reject]] = {}
    for reject in doubtful:
        of_key.setdefault(reject.key, []).append(reject)
    near = chips.filter(pc.is_in(chips["key"], value_set=pa.array(list(of_key), pa.string())))
    found = [
        row["chip_id"]
        for row in near.to_pylist()
        if any(_speaks_of(reject, row) for reject in of_key[row["key"]])
    ]
    return pa.array(found, schemas.CHIP_ID)


def _speaks_of(reject: Reject, chip: dict[str, Any]) -> bool:
    if reject.row is None or reject.col is None:
        return True
    down, across = reject.row - chip["top"], reject.col - chip["left"]
    return bool(0 <= down < chip["height"] and 0 <= across < chip["width"])
