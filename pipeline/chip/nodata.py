"""No-data: how much of each chip of a scene shows something, and which chips show too little.

Each image is read once for each of its versions: what was measured stays in the store, of dropped
chips too, so that another `chip.max_nodata` reads nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chip import methods
from pipeline.config.sections import ChipParams, NoData
from pipeline.core import hardware, rejects, schemas
from pipeline.core.errors import Changed, InputError, Missing, Rejected, StorageError
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import pluralize
from pipeline.images.sandbox import DecoderSandbox, out_of_memory
from pipeline.images.valid_mask import valid_mask
from pipeline.images.watchdog import watched
from pipeline.storage import Storage
from pipeline.store import shards, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CHIPS, INDEX, out

log = logging.getLogger(__name__)

AHEAD = 16
"""Images that are read before the first of them is done with, at most."""

Valid = Callable[[bytes, str], NDArray[np.bool_]]
Row = dict[str, Any]


def with_masks(places: pa.Table, params: ChipParams) -> pa.Table:
    """Give schemas.SCENE_PLACES where no-data is stated by masks, else *places* as they are."""
    masks = methods.masks(params)
    if masks is None:
        return places
    named = [methods.mask_of(masks, key) for key in places["key"].to_pylist()]
    listed = tables.read(INDEX / "tables.parquet")
    at = pc.index_in(pa.array(named, pa.string()), value_set=listed["key"].combine_chunks())
    places = places.append_column("mask", pa.array(named, pa.string()))
    return places.append_column("mask_version", listed["version"].take(at))


def make(
    context: Context, pieces: Sequence[Piece], neighbours: shards.Neighbours, report: Report
) -> None:
    """Measure the chips of *pieces* that no neighbour has; each piece is kept once it is done.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    params = context.params
    storage = context.bucket
    moved: list[str] = []
    total = shards.count_rows(context.store, pieces)
    with Progress("chip", "images", total, report) as progress, ExitStack() as ends:
        measure = partial(_measured, storage, _valid(context, ends))
        pool = ends.enter_context(ThreadPoolExecutor(_threads(context), thread_name_prefix="scene"))
        for piece, wanted in shards.inputs(context.store, pieces):
            reuse = _reuse(neighbours, piece, _planned(wanted, params.chip))
            rows: list[Row] = []
            refused: list[Reject] = []
            changed: list[str] = []
            masks = _masks(wanted)
            for found in _ahead(pool, partial(measure, masks), reuse.left):
                if isinstance(found, list):
                    rows += found
                elif isinstance(found, Reject):
                    refused.append(found)
                else:
                    changed.append(found)
            if not changed:
                made = pa.Table.from_pylist(rows, schema=schemas.SCENE_CHIPS)
                whole = made if reuse.rows is None else pa.concat_tables([reuse.rows, made])
                whole = schemas.conform(whole, schemas.SCENE_CHIPS)
                computed = shards.Provenance(context.run, made.num_rows)
                shards.finish(context.store, piece, whole, refused, computed)
            moved += changed
            progress.step(wanted.num_rows)
    if moved:
        raise StorageError(
            f"{moved[0]} ({pluralize(len(moved), 'images')} changed); run dvc repro again"
        )


def _planned(wanted: pa.Table, params: ChipParams) -> pa.Table:
    """Give the chips of *wanted*, each with its mask's version."""
    planned = methods.plan(wanted, params)
    if "mask" not in wanted.column_names:
        return planned.append_column("mask_version", pa.nulls(planned.num_rows, pa.string()))
    at = pc.index_in(planned["key"], value_set=wanted["key"].combine_chunks())
    return planned.append_column("mask_version", wanted["mask_version"].combine_chunks().take(at))


def _reuse(neighbours: shards.Neighbours, piece: Piece, planned: pa.Table) -> shards.Reuse:
    """Look for the rows of *planned*; those that were measured by another mask are not they."""
    found = shards.reuse(neighbours, piece, planned)
    if found.rows is None:
        return found
    at = pc.index_in(found.rows["chip_id"], value_set=planned["chip_id"].combine_chunks())
    now = pc.fill_null(planned["mask_version"].take(at), "")
    rows = found.rows.filter(pc.equal(pc.fill_null(found.rows["mask_version"], ""), now))
    have = pc.is_in(planned["chip_id"], value_set=rows["chip_id"].combine_chunks())
    return shards.Reuse(rows, planned.filter(pc.invert(have)))


def _masks(wanted: pa.Table) -> dict[str, Row]:
    """Give what is known of each image's mask by its key; nothing where there are none."""
    if "mask" not in wanted.column_names:
        return {}
    return {row["key"]: row for row in wanted.to_pylist()}


def _threads(context: Context) -> int:
    """Give two, to fetch while another decodes; more where one worker has all cores to itself."""
    alone = hardware.device(context.machine.device) != "cpu"
    return max(2, hardware.cores() if alone else 0)


def _valid(context: Context, ends: ExitStack) -> Valid:
    nodata = methods.nodata(context.params.chip)
    if nodata is None:
        raise TypeError("no-data is not stated")
    if methods.masks(context.params.chip):
        nodata = 0  # of the mask
    if context.machine.isolates_decoding:
        apart = DecoderSandbox()
        ends.callback(apart.close)
        return lambda data, key: apart.valid_mask(data, nodata, key)
    return partial(_valid_here, nodata)


def _valid_here(nodata: NoData, data: bytes, key: str) -> NDArray[np.bool_]:
    with watched(key):
        return valid_mask(data, nodata)


def _ahead(pool: ThreadPoolExecutor, measure: Callable[[list[Row]], Any], left: pa.Table) -> Any:
    """Measure image by image, in their order."""
    of_image = [list(rows) for _, rows in groupby(left.to_pylist(), lambda row: row["key"])]
    for start in range(0, len(of_image), AHEAD):
        yield from pool.map(measure, of_image[start : start + AHEAD])


def _measured(
    storage: Storage, valid: Valid, masks: dict[str, Row], rows: list[Row]
) -> list[Row] | Reject | str:
    """Give an image's chips with their shares, or why it has none; a sentence if it has changed."""
    key = rows[0]["key"]
    mask = masks.get(key)
    try:
        if mask is None:
            shown = valid(storage.read(key, if_version=rows[0]["version"]), key)
        else:
            shown = _of_mask(storage, valid, mask)
    except Rejected as why:
        return Reject("chip", key, why.reason, rejects.message(key, why))
    except MemoryError as error:
        raise out_of_memory(key) from error
    except (Changed, Missing) as error:
        return str(error)
    return [{**row, "valid_share": share(shown, row)} for row in rows]


def _of_mask(storage: Storage, valid: Valid, mask: Row) -> NDArray[np.bool_]:
    """Give what the mask of an image says is valid: all that is not 0 there."""
    name, size = mask["mask"], (mask["image_height"], mask["image_width"])
    if mask["mask_version"] is None:
        raise Rejected("no_mask", f"there is no mask {name}")
    shown = valid(storage.read(name, if_version=mask["mask_version"]), name)
    if shown.shape != size:
        has, wants = (f"{height} × {width}" for height, width in (shown.shape, size))
        raise Rejected("no_mask", f"its mask {name} is {has}, and the image {wants}")
    return shown


def share(shown: NDArray[np.bool_], row: Row) -> float:
    """Give the share of valid pixels of a window, of those of its pixels that the image has."""
    top, left = max(row["top"], 0), max(row["left"], 0)
    inside = shown[top : row["top"] + row["height"], left : row["left"] + row["width"]]
    return np.count_nonzero(inside) / inside.size


def limit(params: ChipParams) -> dict[str, float]:
    """Give the setting that says which chips are kept; nothing where no-data is not stated."""
    return {} if methods.nodata(params) is None else {"max_nodata": methods.max_nodata(params)}


@dataclass(frozen=True, slots=True)
class KeptChips:
    """The chips of a run.

    Attributes:
        found: their files, as they are to be.
        chips: schemas.CHIPS of all.
        dropped: schemas.REJECTS of those that show too little.
        counted: how many there were by how much of them is no-data, and how many were dropped;
            nothing where no-data is not stated.
    """

    found: shards.AssembledTable
    chips: pa.Table
    dropped: pa.Table = field(default_factory=schemas.REJECTS.empty_table)
    counted: dict[str, int] = field(default_factory=dict)


def kept(context: Context, planned: Sequence[shards.ShardPlan]) -> KeptChips:
    """Gather the finished pieces of *planned*, without the chips that show too little.

    Raises:
        Damaged: a piece is not there any more, or not what was written.
        InputError: no chip is left.
    """
    found = shards.assemble(context.store, planned, context.run, CHIPS)
    if not limit(context.params.chip):
        table = shards.read_table(context.store, planned, schemas.CHIPS)
        return KeptChips(found, schemas.conform(table, schemas.CHIPS))
    most = limit(context.params.chip)["max_nodata"]
    every = schemas.SCENE_CHIPS.empty_table(), *shards.read_tables(context.store, planned)
    masks = [pc.less_equal(pc.subtract(1.0, table["valid_share"]), most) for table in every]
    left = [table.filter(mask) for table, mask in zip(every, masks, strict=True)]
    whole, chosen = pa.concat_tables(every), pa.concat_tables(left)
    if whole.num_rows and not chosen.num_rows:
        raise InputError(
            f"chip.max_nodata: none of {whole.num_rows:,} chips has as little no-data as {most:g}; "
            "set it higher, or see whether chip.nodata is what the images have"
        )
    dropped = whole.filter(pa.concat_arrays([m.combine_chunks() for m in map(pc.invert, masks)]))
    counted = _counted(whole["valid_share"]) | {"dropped": dropped.num_rows}
    log.info(
        "chip: %s without no-data, %s with some, %s all of it; chip.max_nodata drops %s",
        pluralize(counted["none"], "chips"),
        *(f"{count:,}" for name, count in counted.items() if name != "none"),
    )
    found = _shrunk(found, left[1:])
    return KeptChips(
        found,
        schemas.conform(chosen, schemas.CHIPS),
        rejects.table(_rejects(dropped, most)),
        counted,
    )


def _counted(shares: pa.ChunkedArray) -> dict[str, int]:
    """Count chips without no-data, with some, and of nothing else."""
    values = shares.to_numpy()
    none, every = int((values == 1).sum()), int((values == 0).sum())
    return {"none": none, "partial": len(values) - none - every, "all": every}


def _shrunk(found: shards.AssembledTable, left: Sequence[pa.Table]) -> shards.AssembledTable:
    """Give *found* with the rows that are left; files that lost none are as they were."""
    files, lines = {}, []
    for (name, file), line, table in zip(found.files.items(), found.lines, left, strict=True):
        same = table.num_rows == line["rows"]
        files[name] = file if same else out(schemas.to_bytes(table))
        lines.append({**line, "rows": table.num_rows, "sha256": files[name].sha256})
    rows = sum(table.num_rows for table in left)
    computed = min(found.computed, rows)
    return replace(found, files=files, lines=lines, rows=rows, computed=computed)


def _rejects(dropped: pa.Table, most: float) -> Iterator[Reject]:
    for row in dropped.to_pylist():
        window = f"{row['top']}, {row['left']}, {row['height']} × {row['width']}"
        none = 1 - row["valid_share"]
        detail = f"{none:.4g} of window {window} is no-data, over chip.max_nodata {most:g}"
        yield Reject("chip", row["key"], "no_data", detail, row=row["row"], col=row["col"])
