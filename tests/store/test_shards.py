"""Shards: divided by key, reused from neighbours, and put together as an out."""

from __future__ import annotations

import hashlib
import os
import time

import pyarrow as pa
import pytest
from store_rows import chips, features, headers
from watched_store import Crowd, WatchedFolder

from pipeline.core import schemas
from pipeline.core.errors import StorageError
from pipeline.core.hashing import digest, shard_of
from pipeline.core.rejects import Reject
from pipeline.store import outputs, shards
from pipeline.store.objects import Damaged, Piece, Store

RECIPE = "5" * 64
KEYS = [f"{name}.png" for name in "abcdefgh"]
YEAR_S = 365 * 86_400


@pytest.fixture
def store(tmp_path):
    return Store(WatchedFolder(tmp_path / "store"))


def planned(rows, count=4, table="chips", recipe=RECIPE):
    return shards.plan(table, recipe, shards.split(rows, count), rows.schema)


def finish(store, plan, rejected=(), run="run", computed=0):
    """Finish a piece whose rows are its input rows."""
    rows = schemas.from_bytes(plan.rows())
    shards.finish(store, plan.piece, rows, rejected, shards.Provenance(run, computed))
    return plan


def piece(name, shard="p"):
    return Piece("chips", RECIPE, shard, hashlib.sha256(name.encode()).hexdigest())


def keep(store, where, *columns):
    """Finish a piece with chips of one image at *columns*."""
    shards.finish(store, where, chips(["a.png"], columns), [], shards.Provenance("run", 0))
    return where


def reuse(store, *columns):
    wanted = chips(["a.png"], columns)
    return shards.reuse(shards.Neighbours(store, "chips", RECIPE), piece("new"), wanted)


def columns(table):
    return table["col"].to_pylist()


def files_read(store, file):
    return [key for key in store.storage.asked("read") if key.endswith(f".{file}")]


def test_every_row_is_in_the_shard_of_its_key_and_the_order_is_kept():
    keys = [key for key in "zyxwzyxabcab" * 20 if shard_of(key, 4) != 3]
    rows = [{"key": key, "number": number} for number, key in enumerate(keys)]
    halves = [pa.Table.from_pylist(half) for half in (rows[:50], rows[50:])]
    parts = shards.split(pa.concat_tables(halves), 4)
    expected = [[row for row in rows if shard_of(row["key"], 4) == shard] for shard in range(4)]
    assert [part.to_pylist() for part in parts] == expected
    assert [bool(part) for part in expected] == [True, True, True, False]


def test_a_table_without_rows_has_as_many_shards():
    parts = shards.split(schemas.CHIPS.empty_table(), 4)
    assert [part.num_rows for part in parts] == [0] * 4
    assert planned(schemas.CHIPS.empty_table()) == []


def test_a_piece_is_named_after_its_input_rows_whatever_their_order():
    rows = chips(KEYS)
    plans = planned(rows.take(list(reversed(range(len(KEYS))))))
    parts = [part for part in shards.split(rows, 4) if part.num_rows]
    assert [schemas.from_bytes(plan.rows()).to_pylist() for plan in plans] == [
        part.to_pylist() for part in parts
    ]
    assert [plan.size for plan in plans] == [part.num_rows for part in parts]
    for plan in plans:
        name = Piece("chips", RECIPE, f"p{plan.number:02b}", plan.piece.input)
        assert plan.piece == name
        assert plan.piece.input == hashlib.sha256(plan.rows()).hexdigest()


def test_a_shard_without_rows_needs_no_piece():
    key = next(key for key in KEYS if shard_of(key, 4) == 2)
    (plan,) = planned(chips([key]))
    assert (plan.number, plan.piece.shard) == (2, "p10")


def test_shards_are_missing_until_they_are_finished_which_one_listing_tells(store):
    plans = planned(chips(KEYS)) + planned(headers(KEYS), table="images")
    for plan in plans[1::2]:
        finish(store, plan)
    store.storage.requests.clear()
    assert shards.missing_shards(store, plans, "run") == plans[::2]
    assert store.storage.requests == [("list", f"chips/{RECIPE}/"), ("list", f"images/{RECIPE}/")]


def test_inputs_are_kept_until_their_piece_is_finished(store):
    plans = planned(chips(KEYS))
    shards.put_inputs(store, plans)
    pieces = [plan.piece for plan in plans]
    assert shards.count_rows(store, pieces) == len(KEYS)
    finish(store, plans[1])
    left = [plans[0], *plans[2:]]
    found = dict(shards.inputs(store, pieces))
    assert list(found) == [plan.piece for plan in left]
    for plan in left:
        assert schemas.to_bytes(found[plan.piece]) == plan.rows()
    assert shards.count_rows(store, pieces) == len(KEYS) - plans[1].size


def test_the_neighbour_with_most_rows_is_read_and_others_only_for_what_is_left(store):
    keep(store, piece("few"), 1, 2)
    most = keep(store, piece("most"), 1, 2, 3, 9)
    other = keep(store, piece("other"), 4, 1)
    keep(store, piece("none"), 7)
    found = reuse(store, 1, 2, 3, 4, 5)
    assert sorted(columns(found.rows)) == [1, 2, 3, 4]
    assert columns(found.left) == [5]
    read = [key for key in files_read(store, "parquet") if "rejects" not in key]
    assert read == [most.path("parquet"), other.path("parquet")]


def test_no_table_is_read_once_every_row_is_found_or_if_none_can_be(store):
    where = keep(store, piece("all"), 1, 2)
    keep(store, piece("half"), 1)
    assert columns(reuse(store, 1, 2).left) == []
    assert reuse(store, 3).rows is None
    assert files_read(store, "parquet") == [where.path("parquet")]


def test_a_damaged_neighbour_is_passed_over_for_the_next(store, tmp_path):
    where = keep(store, piece("damaged"), 1, 2, 3)
    keep(store, piece("whole"), 1, 2)
    path = tmp_path / "store" / where.path("parquet")
    path.write_bytes(b"x" + path.read_bytes()[1:])
    found = reuse(store, 1, 2, 3)
    assert (columns(found.rows), columns(found.left)) == ([1, 2], [3])


def test_reused_and_computed_rows_are_one_sorted_table(store):
    keep(store, piece("old"), 1, 3)
    keep(store, piece("older"), 5)
    found = reuse(store, 1, 2, 3, 4, 5)
    together = found.with_computed(chips(["a.png"], [4, 2]))
    assert together.equals(chips(["a.png"], [1, 2, 3, 4, 5]))
    alone = shards.Reuse(None, found.left).with_computed(chips(["a.png"], [2, 4]))
    assert alone.equals(chips(["a.png"], [2, 4]))


def test_headers_of_the_same_image_and_version_are_reused(store):
    rows = headers(["a.png", "b.png"])
    shards.finish(store, piece("old"), rows, [], shards.Provenance("run", 0))
    changed = rows.set_column(1, "version", [["v", "other"]])
    neighbours = shards.Neighbours(store, "chips", RECIPE)
    found = shards.reuse(neighbours, piece("new"), changed)
    assert found.rows["key"].to_pylist() == ["a.png"]
    assert found.left["key"].to_pylist() == ["b.png"]


def test_rows_that_no_neighbour_has_are_new(store):
    keep(store, piece("old", "p0"), 1, 2)
    keep(store, piece("older", "p1"), 4)
    keep(store, piece("other", "p"), 2, 3)
    neighbours = shards.Neighbours(store, "chips", RECIPE)
    rows = chips(["a.png"], [1, 2, 3, 4, 5])
    assert shards.count_new(neighbours, piece("new", "p0"), rows) == 2
    assert shards.count_new(neighbours, piece("new", "p1"), rows) == 2
    assert shards.count_new(neighbours, piece("new", "p"), rows) == 1


def test_images_that_changed_are_an_error_with_the_first_and_their_number():
    shards.check_unchanged([])
    changed = ["a.png: changed", "b.png: changed", "c.png: changed"]
    with pytest.raises(StorageError) as error:
        shards.check_unchanged(changed)
    assert str(error.value) == "a.png: changed (3 images changed); run dvc repro again"


def test_an_out_is_put_together_from_its_pieces(store, tmp_path):
    plans = planned(features(KEYS), table="features")
    assert len(plans) > 2
    late = Reject("extract", "z.png", "truncated", "short")
    early = Reject("extract", "a.png", "corrupt", "bad")
    no_pixel = Reject("extract", "a.png", "truncated", "short")
    finish(store, plans[0], [late], "this run", plans[0].size)
    finish(store, plans[1], [early, no_pixel], "another run", plans[1].size)
    for plan in plans[2:]:
        finish(store, plan, [], "this run", 1)
    table = shards.assemble(store, plans, "this run", tmp_path / "out")

    assert table.counts("extract", "chips").values() == {
        "stage": "extract",
        "unit": "chips",
        "rows": 8,
        "computed": plans[0].size + len(plans) - 2,
        "reused": 8 - plans[0].size - len(plans) + 2,
        "rejected": 3,
        "reasons": {"truncated": 2, "corrupt": 1},
    }
    assert table.rejected["key"].to_pylist() == ["a.png", "a.png", "z.png"]
    assert table.rejected["reason"].to_pylist() == ["corrupt", "truncated", "truncated"]
    outputs.publish(tmp_path / "out", table.files, {"stage": "extract", "shards": table.lines})
    for plan, line in zip(plans, table.lines, strict=True):
        path = tmp_path / "out" / f"{plan.number:04d}.parquet"
        assert path.read_bytes() == plan.rows()
        assert line["shard"] == plan.number
        assert line["input"] == line["sha256"] == plan.piece.input
        assert line["rows"] == plan.size
    assert table.lines[0]["rejects"] == digest(
        [{"stage": "extract", "key": "z.png", "row": None, "col": None}
         | {"reason": "truncated", "detail": "short"}]
    )  # fmt: skip
    assert table.lines[2]["rejects"] == digest([])
    assert shards.shard_pieces(
        "features", {"recipe": RECIPE, "shards_count": 4, "shards": table.lines}
    ) == [(plan.piece, line) for plan, line in zip(plans, table.lines, strict=True)]
    assert shards.shard_pieces("features", {"recipe": RECIPE}) == []


def test_the_files_of_an_out_are_read_when_they_are_placed_and_can_be_links(store, tmp_path):
    """So that the features of a large bucket are neither in memory nor on the disk twice."""
    plans = [finish(store, plan) for plan in planned(chips(KEYS))]
    table = shards.assemble(store, plans, "run", tmp_path / "out")
    assert files_read(store, "parquet") == []
    links = [file.link for file in table.files.values()]
    assert [link.read_bytes() for link in links] == [plan.rows() for plan in plans]
    assert [file.data() for file in table.files.values()] == [plan.rows() for plan in plans]


def test_an_out_that_is_put_together_again_is_not_written_again(store, tmp_path):
    plans = [finish(store, plan) for plan in planned(chips(KEYS))]
    written = []
    for _ in range(2):
        table = shards.assemble(store, plans, "run", tmp_path / "out")
        outputs.publish(tmp_path / "out", table.files, {"stage": "chip", "shards": table.lines})
        written.append({path: path.stat().st_ino for path in (tmp_path / "out").iterdir()})
    assert written[0] == written[1]


def test_an_out_without_rows_has_no_file(store, tmp_path):
    table = shards.assemble(store, [], "run", tmp_path)
    assert (table.files, table.lines, table.rows, table.computed) == ({}, [], 0, 0)
    assert table.rejected.equals(schemas.REJECTS.empty_table())


def test_an_out_marks_its_pieces_as_used(store, tmp_path):
    plans = [finish(store, plan) for plan in planned(chips(KEYS))]
    records = [tmp_path / "store" / plan.piece.path("json") for plan in plans]
    for path in records:
        os.utime(path, (time.time() - YEAR_S,) * 2)
    shards.assemble(store, plans, "run", tmp_path / "out")
    assert all(time.time() - path.stat().st_mtime < YEAR_S / 2 for path in records)


def test_every_damaged_piece_is_found_before_the_run_begins_again(store, tmp_path):
    plans = [finish(store, plan) for plan in planned(chips(KEYS))]
    for plan in plans[:2]:
        (tmp_path / "store" / plan.piece.path("json")).write_bytes(b"{}")
    with pytest.raises(Damaged, match="will be made again"):
        shards.assemble(store, plans, "run", tmp_path)
    assert shards.missing_shards(store, plans, "run") == plans[:2]


def test_the_rows_of_all_shards_are_read_into_one_table(store):
    plans = [finish(store, plan) for plan in planned(chips(KEYS))]
    table = shards.read_table(store, plans, schemas.CHIPS)
    assert sorted(table["key"].to_pylist()) == KEYS
    assert shards.read_table(store, [], schemas.CHIPS).equals(schemas.CHIPS.empty_table())
    parts = shards.read_tables(store, plans)
    assert [schemas.to_bytes(part) for part in parts] == [plan.rows() for plan in plans]


def test_a_piece_with_faults_of_the_bucket_is_tried_again_by_the_next_run(store):
    """Faults of the image itself would be the same."""
    first, second = planned(chips(KEYS))[:2]
    finish(store, first, [Reject("extract", "a.png", "vanished", "gone")])
    finish(store, second, [Reject("extract", "b.png", "truncated", "short")])
    assert shards.missing_shards(store, [first, second], "run") == []
    assert shards.missing_shards(store, [first, second], "next") == [first]


REQUESTS = {
    "inputs": shards.put_inputs,
    "ids": lambda store, plans: shards.Neighbours(store, "chips", RECIPE).ids(piece("new")),
    "pieces": lambda store, plans: shards.read_each([plan.piece for plan in plans], store.record),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_eight_requests_are_under_way_at_a_time(tmp_path, what):
    """One by one, the latency of S3 adds up; all at once, so do their bytes."""
    crowd = Crowd(tmp_path, 8)
    store = Store(crowd)
    plans = planned(chips([f"{n}.png" for n in range(200)]), 16)
    assert len(plans) == 16
    for plan in plans:
        finish(store, plan)
    crowd.expect()
    REQUESTS[what](store, plans)
    assert crowd.most == 8
