"""What a store asks of its storage, what it keeps beside pieces, and what it says of damage."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time

import pytest
from watched_store import Crowd, WatchedFolder

from pipeline.core.errors import Missing
from pipeline.storage import open_storage
from pipeline.store.objects import Damaged, Piece, Store

HOUR_S = 3600.0
RECIPE = "5" * 64


@pytest.fixture
def store(tmp_path):
    return Store(WatchedFolder(tmp_path / "store"))


def piece(name="i", shard="p0", recipe=RECIPE, table="chips"):
    return Piece(table, recipe, shard, hashlib.sha256(name.encode()).hexdigest())


def keep(store, where, *, run="run", again=False):
    note = {"run": run, "again": True} if again else {"run": run}
    store.put(where, {"parquet": (b"rows", 2), "ids": (b"ids", 2)}, note)
    return where


def keys(store, prefix=""):
    return {item.key for item in store.storage.list(prefix)}


def test_a_piece_is_its_files_and_a_record_that_is_written_last(store):
    where = keep(store, piece())
    assert store.storage.asked("put") == [where.path(file) for file in ("ids", "parquet", "json")]
    record = store.record(where)
    assert record.note == {"run": "run"}
    facts = {name: (file.size, file.rows, file.sha256) for name, file in record.files.items()}
    assert facts == {
        "parquet": (4, 2, hashlib.sha256(b"rows").hexdigest()),
        "ids": (3, 2, hashlib.sha256(b"ids").hexdigest()),
    }
    assert store.read(where, "parquet") == b"rows"
    assert store.ids(where) == b"ids"


def test_a_piece_that_is_to_be_tried_again_is_marked_before_it_is_finished(store):
    """A run that is killed between the two leaves no piece that is never tried again."""
    where = keep(store, piece(), again=True)
    assert store.storage.asked("put")[-2:] == [where.path("again"), where.path("json")]
    assert store.storage.read(where.path("again")) == b""


def test_only_pieces_that_another_run_has_marked_are_left_out(store):
    ours = keep(store, piece("ours"), run="now", again=True)
    theirs = keep(store, piece("theirs"), run="then", again=True)
    plain = keep(store, piece("plain"), run="then")
    other = keep(store, piece("other", shard="p1"), run="then", again=True)
    unfinished = piece("unfinished")
    store.mark_again(unfinished)
    every = {"p0": sorted([ours.input, theirs.input, plain.input]), "p1": [other.input]}
    found = store.finished("chips", RECIPE)
    assert {shard: sorted(inputs) for shard, inputs in found.items()} == every
    found = store.finished("chips", RECIPE, "now")
    assert {shard: sorted(inputs) for shard, inputs in found.items()} == {
        "p0": sorted([ours.input, plain.input]),
        "p1": [],
    }
    assert store.storage.read(theirs.path("again")) == b""


def test_the_mark_of_a_piece_that_has_been_made_without_faults_is_removed(store):
    where = keep(store, piece(), run="then", again=True)
    keep(store, where, run="then")
    for _ in range(2):
        assert store.finished("chips", RECIPE, "now") == {"p0": [where.input]}
        assert where.path("again") not in keys(store)


def test_a_marked_piece_whose_record_is_damaged_is_left_out(store, tmp_path):
    where = keep(store, piece(), run="now", again=True)
    (tmp_path / "store" / where.path("json")).write_bytes(b"{}")
    assert store.finished("chips", RECIPE, "now") == {"p0": []}


def test_input_rows_beside_a_finished_piece_are_removed_and_no_others(store):
    """A run that is killed leaves them; those of a piece to be made, again or not, are needed."""
    done, again, unfinished = piece("done"), piece("again"), piece("unfinished")
    other = piece("other", shard="p1")
    keep(store, done)
    keep(store, again, again=True)
    for where in (done, again, unfinished, other):
        store.put_input(where, b"rows")
    store.finished("chips", RECIPE)
    left = {key for key in keys(store) if key.endswith("input.parquet")}
    assert left == {where.path("input.parquet") for where in (again, unfinished, other)}


def test_input_rows_are_read_back_until_their_piece_is_finished(store):
    where = piece("rows")
    with pytest.raises(Missing):
        store.read_input(where)
    store.put_input(where, b"rows")
    assert store.read_input(where) == b"rows"
    keep(store, where)
    assert store.read_input(where) is None
    assert where.path("input.parquet") not in keys(store)


def test_damaged_input_rows_are_set_aside(store):
    where = piece("rows")
    store.put_input(where, b"wors")
    with pytest.raises(Damaged) as error:
        store.read_input(where)
    key = where.path("input.parquet")
    assert str(error.value) == (
        f"{store.storage.url}/{key}: damaged; moved to damaged/, and will be made again"
    )
    assert keys(store) == {f"damaged/{key}"}
    assert store.storage.read(f"damaged/{key}") == b"wors"


RECORDS = {
    "no JSON": lambda content: b"{",
    "no text": lambda content: b"\xff",
    "no object": lambda content: b"[]",
    "no files": lambda content: {"note": content["note"], "sha256": content["sha256"]},
    "another note": lambda content: {**content, "note": {"run": "other"}},
    "another field": lambda content: {**content, "more": 1},
    "no digest": lambda content: {"files": content["files"], "note": content["note"]},
    "another name": lambda content: content,
}


@pytest.mark.parametrize("how", RECORDS)
def test_a_record_that_is_not_what_was_written_is_set_aside(store, how, caplog):
    """Not even that of another piece with the same rows is right."""
    content = json.loads(store.storage.read(keep(store, piece("other")).path("json")))
    where = keep(store, piece()) if how != "another name" else piece()
    changed = RECORDS[how](content)
    data = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    key = where.path("json")
    store.storage.put(key, data)
    with pytest.raises(Damaged) as error:
        store.record(where)
    said = f"{store.storage.url}/{key}: damaged; moved to damaged/, and will be made again"
    assert str(error.value) == said
    assert caplog.record_tuples == [("pipeline.store.objects", logging.WARNING, said)]
    assert store.storage.read(f"damaged/{key}") == data
    assert not store.has(where)


def test_a_piece_that_somebody_has_removed_says_that_it_is_made_again(store):
    with pytest.raises(Damaged) as error:
        store.record(piece())
    path = store.storage.root / piece().path("json")
    assert str(path) in str(error.value)
    assert str(error.value).endswith("; will be made again")
    assert isinstance(error.value.__cause__, Missing)


def test_the_parts_of_a_recipe_are_written_once(store):
    store.describe(RECIPE, {"b": 1, "a": "é"})
    store.describe(RECIPE, {"b": 1, "a": "é"})
    assert store.storage.asked("put") == [f"recipes/{RECIPE}.json"]
    assert store.storage.read(f"recipes/{RECIPE}.json") == '{"a":"é","b":1}'.encode()


def test_use_is_noted_at_most_once_a_day(store, tmp_path):
    """Each table is listed once, and a piece that is gone is no error."""
    old, new = keep(store, piece("old")), keep(store, piece("new"))
    other = keep(store, piece("old", table="images"))
    unused = keep(store, piece("unused"))
    now = time.time()
    ages = {old: 25 * HOUR_S, other: 25 * HOUR_S, unused: 99 * HOUR_S, new: 23 * HOUR_S}
    for where, age in ages.items():
        os.utime(tmp_path / "store" / where.path("json"), (now - age,) * 2)
    store.storage.requests.clear()
    store.mark_used([old, new, other, piece("gone")])
    assert store.storage.asked("list") == [f"chips/{RECIPE}/", f"images/{RECIPE}/"]
    assert sorted(store.storage.asked("touch")) == [old.path("json"), other.path("json")]
    modified = {item.key: item.modified for item in store.storage.list()}
    assert modified[old.path("json")] >= now - 1 > modified[unused.path("json")]


def test_sixteen_pieces_are_noted_as_used_at_a_time(tmp_path):
    crowd = Crowd(tmp_path, 16)
    store = Store(crowd)
    pieces = [keep(store, piece(str(number))) for number in range(32)]
    for where in pieces:
        os.utime(tmp_path / where.path("json"), (0, 0))
    crowd.expect()
    store.mark_used(pieces)
    assert crowd.most == 16


def test_a_file_of_a_store_in_a_folder_has_a_path(store, tmp_path, monkeypatch):
    where = keep(store, piece())
    assert store.local_path(where, "parquet").read_bytes() == b"rows"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert Store(open_storage("s3://bucket/store")).local_path(where, "parquet") is None
