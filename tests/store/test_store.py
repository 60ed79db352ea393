"""The store: whole or not at all, verified at every read, and never stale."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import servers
from conftest import ROOT

from pipeline.commands import gc
from pipeline.core import schemas
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.storage import open_storage
from pipeline.store import shard_task, shards
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


def digest(name):
    return hashlib.sha256(name.encode()).hexdigest()


def piece(shard="p0", made="i", recipe="r"):
    return Piece("chips", digest(recipe), shard, digest(made))


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
    assert store.finished("chips", digest("r")) == {"p0": [digest("i")]}


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


HARMS = {
    "truncate": lambda data: data[: len(data) // 2],
    "zero": lambda data: bytes(len(data)),
    "delete": lambda data: None,
    "garbage": lambda data: b"\x9b garbage" + data,
}


def harm(path, how):
    """Damage a file of the store in one of HARMS."""
    harmed = HARMS[how](path.read_bytes())
    path.unlink()  # an out may be the same file by a hard link
    if harmed is not None:
        path.write_bytes(harmed)


@pytest.mark.parametrize("how", HARMS)
@pytest.mark.parametrize("file", ["json", "parquet", "rejects.parquet", "ids"])
def test_whichever_file_is_damaged_every_read_says_that_the_piece_is_made_again(
    store, tmp_path, file, how
):
    """None may raise an error that is not tried again."""
    keep(store, piece(), chips(1, 2))
    harm(tmp_path / "store" / piece().path(file), how)
    with pytest.raises(Damaged, match="will be made again"):
        store.read(piece(), file if file != "json" else "parquet")
    assert not store.has(piece())
    for other in ("parquet", "rejects.parquet", "ids"):
        with pytest.raises(Damaged, match="will be made again"):
            store.read(piece(), other)
    assert store.ids(piece()) == b""
    assert reuse(store, piece(made="new"), chips(1)).left.num_rows == 1
    keep(store, piece(), chips(1, 2))
    assert schemas.from_bytes(store.read(piece(), "parquet")).equals(chips(1, 2))


def test_damaged_ids_are_noticed_and_do_not_hide_rows(store, tmp_path):
    """They lead to reusable rows: other ids would have those computed again."""
    keep(store, piece(made="old"), chips(1))
    harm(tmp_path / "store" / piece(made="old").path("ids"), "zero")
    assert reuse(store, piece(made="new"), chips(1)).left.num_rows == 1
    assert not store.has(piece(made="old"))


STRAY = (
    "Thumbs.db",
    ".DS_Store",
    "._store",
    "desktop.ini",
    "copy of a piece.json",
    "folder/notes.json",
    "deep/er/and/deeper/x.parquet",
)


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_stray_files_at_any_depth_are_ignored(tmp_path, monkeypatch, where):
    with contextlib.ExitStack() as stack:
        url = str(tmp_path / "store")
        if where == "s3":
            endpoint = stack.enter_context(servers.moto(tmp_path))
            for name, value in servers.environment(endpoint).items():
                monkeypatch.setenv(name, value)
            url = f"s3://{servers.BUCKET}/store"
        store = Store(open_storage(url))
        keep(store, piece(), chips(1))
        path = piece().path("json")
        depths = [path.rsplit("/", n)[0] for n in (1, 2, 3)]
        for folder in (*(f"{depth}/" for depth in depths), "", path.removesuffix("json")):
            for name in STRAY:
                store.storage.put(folder + name, b"stray")
        before = {item.key for item in store.storage.list()}
        assert store.finished("chips", digest("r")) == {"p0": [digest("i")]}
        assert reuse(store, piece(made="new"), chips(1)).left.num_rows == 0
        store.mark_used([piece()])
        ours = [each.piece for each in gc.stored_pieces(store) if each.finished]
        assert ours == [piece()]
        assert {item.key for item in store.storage.list()} == before


def test_a_mark_to_try_again_that_is_gone_is_put_back(store, tmp_path):
    where = shards.ShardPlan(0, piece(), lambda: b"", 1)
    keep(store, piece(), chips(1), [Reject("extract", "k", "forbidden", "no")])
    (tmp_path / "store" / piece().path("again")).unlink()
    assert shards.missing_shards(store, [where], "next") == []
    shards.assemble(store, [where], "next", tmp_path)
    assert shards.missing_shards(store, [where], "third") == [where]


def test_a_process_that_lives_long_keeps_one_listing_of_finished_pieces(tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRAT_STORE", str(tmp_path))
    for age in range(5):
        shard_task._finished("chips", digest("r"), "run", age)
    assert shard_task._finished.cache_info().currsize == 1


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
