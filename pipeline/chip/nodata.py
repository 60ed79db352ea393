"""No-data: the share of each chip of a scene that has data, and the chips that have too little.

The shares of all chips stay in the store, also those of dropped chips, so that another
`chip.max_nodata` reads no pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chip import methods
from pipeline.config.sections import ChipParams
from pipeline.core import hardware, rejects, schemas
from pipeline.core.errors import Changed, InputError, Missing, Rejected
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import pluralize
from pipeline.images.sandbox import DecoderSandbox, out_of_memory
from pipeline.images.valid_mask import valid_mask
from pipeline.images.watchdog import watched
from pipeline.store import shards, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CHIPS, INDEX, out

log = logging.getLogger(__name__)

AHEAD = 16
"""The most images that are read before the first of them is finished."""

Mask = NDArray[np.bool_]
Reader = Callable[[str, str], Mask]
Row = dict[str, Any]


def limit(params: ChipParams) -> dict[str, float]:
    """Return the value of `max_nodata` by its name; nothing if `nodata` is not set."""
    stated = methods.nodata(params) is not None
    return {"max_nodata": getattr(params, "max_nodata", 1.0)} if stated else {}


def with_masks(places: pa.Table, params: ChipParams) -> pa.Table:
    """Return schemas.SCENE_PLACES if `nodata` names masks, and else *places* as they are."""
    mask_of = methods.masks(params)
    if mask_of is None:
        return places
    keys = pa.array(map(mask_of, places["key"].to_pylist()), pa.string())
    listed = tables.read(INDEX / "tables.parquet")
    at = pc.index_in(keys, value_set=listed["key"].combine_chunks())
    places = places.append_column("mask", keys)
    return places.append_column("mask_version", listed["version"].take(at))


def make(
    context: Context, pieces: Sequence[Piece], neighbours: shards.Neighbours, report: Report
) -> None:
    """Measure the chips of *pieces* that no neighbour has; each piece is stored when it is done.

    Raises:
        StorageError: the bucket cannot be read, or images have changed since they were indexed.
    """
    changed: list[str] = []
    total = shards.count_rows(context.store, pieces)
    with Progress("chip", "images", total, report) as progress, ExitStack() as stack:
        measure = partial(_measure, _reader(context, stack))
        # Two threads, so that one fetches while the other decodes; a worker that has the machine
        # to itself uses every core.
        alone = hardware.device(context.machine.device) != "cpu"
        threads = max(2, hardware.cores() if alone else 0)
        pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="scene"))
        for piece, places in shards.inputs(context.store, pieces):
            images = {row["key"]: row for row in places.to_pylist()}
            planned = methods.plan(places, context.params.chip)
            reuse = _reuse(neighbours, piece, planned, images)
            measured = list(_in_order(pool, partial(measure, images), reuse.left))
            changed += [each for each in measured if isinstance(each, str)]
            if not any(isinstance(each, str) for each in measured):
                rows = [row for each in measured if isinstance(each, list) for row in each]
                rejected = [each for each in measured if isinstance(each, Reject)]
                computed = pa.Table.from_pylist(rows, schema=schemas.SCENE_CHIPS)
                made = shards.Provenance(context.run, len(rows))
                table = reuse.with_computed(computed)
                shards.finish(context.store, piece, table, rejected, made)
            progress.step(places.num_rows)
    shards.check_unchanged(changed)


def _reuse(
    neighbours: shards.Neighbours, piece: Piece, planned: pa.Table, images: Mapping[str, Row]
) -> shards.Reuse:
    """Look for the rows of *planned*, with their masks' versions; another mask's are not used."""
    versions = [images[key].get("mask_version") for key in planned["key"].to_pylist()]
    planned = planned.append_column("mask_version", pa.array(versions, pa.string()))
    reuse = shards.reuse(neighbours, piece, planned)
    if reuse.rows is None:
        return reuse
    at = pc.index_in(reuse.rows["chip_id"], value_set=planned["chip_id"].combine_chunks())
    now = pc.fill_null(planned["mask_version"].take(at), "")
    rows = reuse.rows.filter(pc.equal(pc.fill_null(reuse.rows["mask_version"], ""), now))
    have = pc.is_in(planned["chip_id"], value_set=rows["chip_id"].combine_chunks())
    return shards.Reuse(rows, planned.filter(pc.invert(have)))


def _reader(context: Context, stack: ExitStack) -> Reader:
    """Return a function that reads an image or a mask and returns its valid pixels."""
    bucket, params = context.bucket, context.params.chip
    nodata = 0 if methods.masks(params) else methods.nodata(params)
    if nodata is None:
        raise TypeError("chip.nodata is not set")
    isolate = context.machine.isolates_decoding
    sandbox = stack.enter_context(closing(DecoderSandbox())) if isolate else None

    def read(key: str, version: str) -> Mask:
        data = bucket.read(key, if_version=version)
        if sandbox:
            return sandbox.valid_mask(data, nodata, key)
        with watched(key):
            return valid_mask(data, nodata)

    return read


def _in_order(
    pool: ThreadPoolExecutor, measure: Callable[[list[Row]], Any], chips: pa.Table
) -> Iterator[list[Row] | Reject | str]:
    """Measure *chips* image by image, in their order."""
    of_image = [list(rows) for _, rows in groupby(chips.to_pylist(), lambda row: row["key"])]
    for start in range(0, len(of_image), AHEAD):
        yield from pool.map(measure, of_image[start : start + AHEAD])


def _measure(read: Reader, images: Mapping[str, Row], rows: list[Row]) -> list[Row] | Reject | str:
    """Return an image's chips with their shares, its reject, or a message if it has changed."""
    key, version = rows[0]["key"], rows[0]["version"]
    image = images[key]
    try:
        mask = _read_mask(read, image) if "mask" in image else read(key, version)
    except Rejected as why:
        return Reject("chip", key, why.reason, rejects.message(key, why))
    except MemoryError as error:
        raise out_of_memory(key) from error
    except (Changed, Missing) as error:
        return str(error)
    return [{**row, "valid_share": share(mask, row)} for row in rows]


def _read_mask(read: Reader, image: Row) -> Mask:
    """Return the valid pixels of *image*: those that are not 0 in its mask."""
    key, size = image["mask"], (image["image_height"], image["image_width"])
    if image["mask_version"] is None:
        raise Rejected("no_mask", f"there is no mask {key}")
    mask = read(key, image["mask_version"])
    if mask.shape != size:
        has, wants = (f"{height} × {width}" for height, width in (mask.shape, size))
        raise Rejected("no_mask", f"its mask {key} is {has}, and the image {wants}")
    return mask


def share(mask: Mask, window: Mapping[str, int]) -> float:
    """Return the share of valid pixels among the pixels of *window* that are inside the image."""
    top, left = max(window["top"], 0), max(window["left"], 0)
    bottom, right = window["top"] + window["height"], window["left"] + window["width"]
    inside = mask[top:bottom, left:right]
    return np.count_nonzero(inside) / inside.size


class KeptChips(NamedTuple):
    """The chips of a run.

    Attributes:
        table: their files.
        chips: schemas.CHIPS.
        dropped: schemas.REJECTS of the chips with more no-data than `max_nodata`.
        counts: chips without no-data, with some, with nothing else, and dropped; empty if `nodata`
            is not set.
    """

    table: shards.AssembledTable
    chips: pa.Table
    dropped: pa.Table
    counts: dict[str, int]


def assemble(context: Context, plans: Sequence[shards.ShardPlan]) -> KeptChips:
    """Gather the finished pieces of *plans*, without the chips that have too much no-data.

    Raises:
        Damaged: a piece is missing, or is not what was written.
        InputError: no chip is left.
    """
    table = shards.assemble(context.store, plans, context.run, CHIPS)
    most = limit(context.params.chip).get("max_nodata")
    if most is None:
        chips = shards.read_table(context.store, plans, schemas.CHIPS)
        chips = schemas.conform(chips, schemas.CHIPS)
        return KeptChips(table, chips, schemas.REJECTS.empty_table(), {})
    parts = shards.read_tables(context.store, plans)
    kept = [part.filter(_are_kept(part, most)) for part in parts]
    empty = schemas.SCENE_CHIPS.empty_table()
    every, chips = pa.concat_tables([empty, *parts]), pa.concat_tables([empty, *kept])
    if every.num_rows and not chips.num_rows:
        raise InputError(
            f"chip.max_nodata: none of {every.num_rows:,} chips has as little no-data as {most:g}; "
            "set it higher, or see whether chip.nodata is what the images have"
        )
    dropped = every.filter(pc.invert(_are_kept(every, most)))
    shares = every["valid_share"].to_numpy()
    without, nothing_else = int((shares == 1).sum()), int((shares == 0).sum())
    counts = {
        "none": without,
        "partial": len(shares) - without - nothing_else,
        "all": nothing_else,
        "dropped": dropped.num_rows,
    }
    log.info(
        "chip: %s without no-data, %s with some, %s all of it; chip.max_nodata drops %s",
        pluralize(without, "chips"),
        *(f"{counts[name]:,}" for name in ("partial", "all", "dropped")),
    )
    return KeptChips(
        table=_only(table, kept),
        chips=schemas.conform(chips, schemas.CHIPS),
        dropped=rejects.table(_reject(row, most) for row in dropped.to_pylist()),
        counts=counts,
    )


def _are_kept(chips: pa.Table, most: float) -> pa.ChunkedArray:
    return pc.less_equal(pc.subtract(1.0, chips["valid_share"]), most)


def _only(table: shards.AssembledTable, kept: Sequence[pa.Table]) -> shards.AssembledTable:
    """Return *table* with only the rows *kept*; the files that have lost none are unchanged."""
    files, lines = {}, []
    for (name, file), line, part in zip(table.files.items(), table.lines, kept, strict=True):
        unchanged = part.num_rows == line["rows"]
        files[name] = file if unchanged else out(schemas.to_bytes(part))
        facts = {**line, "rows": part.num_rows, "sha256": files[name].sha256}
        if not unchanged:
            del facts["rejects"]  # this file is no piece of the store
        lines.append(facts)
    rows = sum(part.num_rows for part in kept)
    computed = min(table.computed, rows)
    return replace(table, files=files, lines=lines, rows=rows, computed=computed)


def _reject(row: Row, most: float) -> Reject:
    window = f"{row['top']}, {row['left']}, {row['height']} × {row['width']}"
    none = 1 - row["valid_share"]
    detail = f"{none:.4g} of window {window} is no-data, over chip.max_nodata {most:g}"
    return Reject("chip", row["key"], "no_data", detail, row=row["row"], col=row["col"])
