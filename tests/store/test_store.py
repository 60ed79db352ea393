"""The store: whole or not at all, verified at every read, and never stale."""

import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
from conftest import ROOT

from pipeline.core import schemas
from pipeline.core.errors import Missing
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.storage import open_storage
from pipeline.store import shards
from pipeline.store.objects import Damaged, Piece, Store

MADE = shards.Provenance("run", 0)


@pytest.fixture
def store(tmp_path):
    return Store(open_storage(str(tmp_path / "store")))


def chips(*columns, key="a.png"):
    rows = [
        {
            "chip_id": chip_id(key, "v", (0, col, 8, 8)),
            "key": key,
            "version": "v",
            "row": 4,
            "col": col,
            "top": 0,
            "left": col,
            "height": 8,
            "width": 8,
        }
        for col in columns
    ]
    return schemas.conform(pa.Table.from_pylist(rows, schema=schemas.CHIPS), schemas.CHIPS)


def piece(shard="p0", made="i", recipe="r"):
    return Piece("chips", recipe, shard, made)


def reuse(store, where, wanted):
    neighbours = shards.Neighbours(store, where.table, where.recipe)
    return shards.reuse(neighbours, where, wanted)


def keep(store, where, rows, rejects=()):
    shards.finish(store, where, rows, rejects, MADE)


def test_a_piece_is_finished_once_its_record_exists(store):
    assert not store.has(piece())
    store.storage.put(piece().path("parquet"), b"half a piece")
    assert not store.has(piece())
    keep(store, piece(), chips(1))
    assert store.has(piece())
    assert store.finished("chips", "r") == {"p0": ["i"]}


def test_a_finished_piece_is_read_back(store):
    keep(store, piece(), chips(1, 2), [Reject("chip", "k", "points_outside", "said", row=1, col=2)])
    assert schemas.from_bytes(store.read(piece(), "parquet")).equals(chips(1, 2))
    rejected = schemas.from_bytes(store.read(piece(), "rejects.parquet"))
    assert rejected.to_pylist()[0]["detail"] == "said"


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "swap", "gone"])
def test_a_damaged_file_is_set_aside_and_its_piece_unfinished(store, tmp_path, harm, caplog):
    keep(store, piece(), chips(1, 2))
    keep(store, piece(made="other"), chips(3))
    path = tmp_path / "store" / piece().path("parquet")
    data = path.read_bytes()
    other = (tmp_path / "store" / piece(made="other").path("parquet")).read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    harmed = {"flip": flipped, "truncate": data[:middle], "empty": b"", "swap": other}
    path.unlink() if harm == "gone" else path.write_bytes(harmed[harm])
    with pytest.raises(Damaged, match="damaged; moved to damaged/, and will be made again"):
        store.read(piece(), "parquet")
    assert not store.has(piece())
    assert not path.exists()
    assert "damaged" in caplog.text
    if harmed.get(harm):
        assert (tmp_path / "store" / "damaged" / piece().path("parquet")).read_bytes() == harmed[
            harm
        ]


def test_input_rows_with_another_digest_are_damaged(store):
    where = piece(made="0" * 64)
    store.put_input(where, b"rows")
    with pytest.raises(Damaged):
        store.read_input(where)


def test_rows_of_neighbours_are_reused_and_the_rest_is_left(store):
    keep(store, piece(made="old"), chips(1, 2, 3))
    found = reuse(store, piece(made="new"), chips(2, 3, 4))
    assert found.rows["col"].to_pylist() == [2, 3]
    assert found.left["col"].to_pylist() == [4]


def test_nothing_is_reused_from_another_recipe_or_an_unrelated_shard(store):
    keep(store, piece(recipe="other"), chips(1))
    keep(store, piece(shard="p1"), chips(1))
    found = reuse(store, piece(shard="p0", made="new"), chips(1))
    assert found.rows is None
    assert found.left["col"].to_pylist() == [1]


@pytest.mark.parametrize("shard", ["p", "p0", "p01"])
def test_rows_are_reused_after_the_number_of_shards_changes(store, shard):
    keep(store, piece(shard="p0"), chips(1))
    assert reuse(store, piece(shard=shard, made="new"), chips(1)).left.num_rows == 0


def test_no_row_of_a_damaged_neighbour_is_reused(store, tmp_path):
    keep(store, piece(made="old"), chips(1))
    path = tmp_path / "store" / piece(made="old").path("parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = reuse(store, piece(made="new"), chips(1))
    assert found.left.num_rows == 1


def test_the_record_of_an_unfinished_piece_is_missing(store):
    with pytest.raises(Missing):
        store.record(piece())


def test_a_killed_writer_leaves_no_partial_file(tmp_path):
    """Kill it at many moments: every file that is there is whole, and is the one or the other."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pipeline.storage import open_storage\n"
        "store = open_storage(sys.argv[1])\n"
        "while True:\n"
        "    for byte in b'ab':\n"
        "        store.put('x/y.bin', bytes([byte]) * 3_000_000)\n"
    )
    seen = set()
    for moment in range(8):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(ROOT)])
        deadline = time.monotonic() + 20
        while not (tmp_path / "x" / "y.bin").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.007 * moment)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        data = (tmp_path / "x" / "y.bin").read_bytes()
        assert len(data) == 3_000_000
        seen.add(data[:1])
        assert data == data[:1] * len(data)
    assert [item.key for item in open_storage(str(tmp_path)).list()] == ["x/y.bin"]
    assert seen <= {b"a", b"b"}
