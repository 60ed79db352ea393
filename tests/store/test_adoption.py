"""Shards of outs become pieces of the store, if they are exactly what their manifest says."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass

import pyarrow as pa
import pytest
from store_rows import chips, features, headers

from pipeline.core import rejects, schemas
from pipeline.core.hashing import shard_of
from pipeline.core.rejects import Reject
from pipeline.storage import open_storage
from pipeline.store import outputs, shards
from pipeline.store.adoption import adopt
from pipeline.store.objects import Store
from pipeline.store.outputs import CHIPS, FEATURES, INDEX, out, rejects_path

COUNT = 4
RECIPE = "7" * 64
KEYS = [f"{name}.png" for name in "abcdefghijkl"]


@dataclass
class Made:
    """The out of one table, and the pieces that it was assembled from."""

    table: str
    folder: outputs.Path
    rows: pa.Table
    rejected: list[Reject]
    of_others: tuple[Reject, ...] = ()
    """Rejects of the stage that are of none of its pieces."""


MADE = {
    INDEX: Made("images", INDEX, headers(KEYS), [Reject("index", "m.png", "not_an_image", "no")]),
    CHIPS: Made(
        "chips", CHIPS, chips(KEYS), [], (Reject("chip", "a.png", "points_outside", "out", 1, 2),)
    ),
    FEATURES: Made(
        "features",
        FEATURES,
        features(KEYS),
        [Reject("extract", key, "truncated", "short", 1, 2) for key in KEYS[:2]],
    ),
}


def publish(made, store):
    """Put an out together from pieces of *store*, as its stage does; give its plans."""
    parts = shards.split(made.rows, COUNT)
    plans = shards.plan(made.table, RECIPE, parts, made.rows.schema)
    for plan, rows in zip(plans, (part for part in parts if part.num_rows), strict=True):
        own = [each for each in made.rejected if shard_of(each.key, COUNT) == plan.number]
        made_by = shards.Provenance("earlier run", rows.num_rows)
        shards.finish(store, plan.piece, schemas.conform(rows, rows.schema), own, made_by)
    assembled = shards.assemble(store, plans, "earlier run", made.folder)
    every = pa.concat_tables([assembled.rejected, rejects.table(made.of_others)])
    files = {rejects_path(outputs.STAGES[made.folder]): out(schemas.to_bytes(rejects.sort(every)))}
    if made.folder == INDEX:
        numbers = [shard_of(key, COUNT) for key in made.rows["key"].to_pylist()]
        images = made.rows.append_column("shard", pa.array(numbers, pa.int32()))
        data = schemas.to_bytes(schemas.conform(images, schemas.IMAGES))
        files[INDEX / "images.parquet"] = out(data)
    else:
        files |= assembled.files
    manifest = {"stage": "s", "recipe": RECIPE, "shards_count": COUNT, "shards": assembled.lines}
    outputs.publish(made.folder, files, manifest)
    return plans


@pytest.fixture
def pulled(tmp_path, monkeypatch):
    """An empty store, in a clone with outs whose pieces are in the folder `earlier`."""
    monkeypatch.chdir(tmp_path)
    for made in MADE.values():
        publish(made, Store(open_storage("earlier")))
    return Store(open_storage("store"))


def stored(store, table):
    """Every file of a table's pieces but the records, which name the run."""
    items = store.storage.list(f"{table}/")
    return {item.key: store.storage.read(item.key) for item in items if ".json" not in item.key}


def rewrite(path, data):
    path.unlink()  # it may be the same file as one of the store
    path.write_bytes(data)


def edit_manifest(folder, **fields):
    path = outputs.manifest_path(folder)
    rewrite(path, json.dumps({**json.loads(path.read_text()), **fields}).encode())


@pytest.mark.parametrize("folder", MADE)
def test_the_shards_of_an_out_become_the_pieces_that_they_were_made_of(pulled, caplog, folder):
    caplog.set_level(logging.INFO)
    table = MADE[folder].table
    assert adopt(pulled, table, RECIPE, folder)
    assert stored(pulled, table) == stored(Store(open_storage("earlier")), table) != {}
    assert caplog.messages == [f"{folder}: 4 shards taken into the store"]
    assert not adopt(pulled, table, RECIPE, folder)
    assert len(caplog.messages) == 1


def test_rows_that_were_taken_in_count_as_reused_and_not_as_computed(pulled):
    plans = publish(MADE[FEATURES], Store(open_storage("earlier")))
    assert adopt(pulled, "features", RECIPE, FEATURES)
    table = shards.assemble(pulled, plans, "adopted", FEATURES)
    summary = "extract: 12 chips, 0 computed, 12 reused, 2 rejected (2 truncated)"
    assert table.counts("extract", "chips").summary() == summary


def test_only_shards_that_the_store_lacks_are_taken(pulled, caplog):
    """So a piece of this store stays as it is."""
    caplog.set_level(logging.INFO)
    plans = publish(MADE[FEATURES], Store(open_storage("earlier")))
    key = plans[2].piece.path("")
    for file in ("json", "parquet", "rejects.parquet", "ids"):
        pulled.storage.put(key + file, Store(open_storage("earlier")).storage.read(key + file))
    record = pulled.storage.read(f"{key}json")
    assert adopt(pulled, "features", RECIPE, FEATURES)
    assert caplog.messages == ["data/features: 3 shards taken into the store"]
    assert pulled.storage.read(f"{key}json") == record
    assert shards.missing_shards(pulled, plans, "run") == []


def test_a_manifest_that_a_stage_has_set_aside_still_counts(pulled):
    outputs.set_manifest_aside(FEATURES)
    assert outputs.read_manifest(FEATURES) is None
    assert adopt(pulled, "features", RECIPE, FEATURES)


def test_an_earlier_manifest_counts_beside_one_of_another_recipe(pulled):
    path = outputs.manifest_path(FEATURES)
    data = path.read_bytes()
    outputs.set_manifest_aside(FEATURES)
    path.write_bytes(data)
    edit_manifest(FEATURES, recipe="0" * 64)
    assert adopt(pulled, "features", RECIPE, FEATURES)
    assert len(pulled.finished("features", RECIPE)) == COUNT


def test_nothing_of_another_recipe_is_taken(pulled):
    """Such as that of features on another kind of machine."""
    assert not adopt(pulled, "features", "0" * 64, FEATURES)
    assert list(pulled.storage.list("features/")) == []


def test_a_shard_whose_bytes_are_not_those_of_the_manifest_is_not_taken(pulled):
    paths = outputs.shard_paths(FEATURES)
    data = paths[0].read_bytes()
    rewrite(paths[0], data[:-9] + b"x" + data[-8:])
    paths[1].unlink()
    assert adopt(pulled, "features", RECIPE, FEATURES)
    assert sorted(pulled.finished("features", RECIPE)) == ["p10", "p11"]


def test_nothing_is_taken_of_shards_that_are_all_gone(pulled, caplog):
    caplog.set_level(logging.INFO)
    for path in outputs.shard_paths(FEATURES):
        path.unlink()
    assert not adopt(pulled, "features", RECIPE, FEATURES)
    assert caplog.messages == []


def test_shards_with_other_rejects_than_the_manifest_says_are_not_taken(pulled):
    """Of the others, none was rejected."""
    path = rejects_path("extract")
    other = [
        Reject("extract", each.key, "corrupt", "bad", 1, 2) for each in MADE[FEATURES].rejected
    ]
    rewrite(path, schemas.to_bytes(rejects.table(other)))
    assert adopt(pulled, "features", RECIPE, FEATURES)
    theirs = {shard_of(each.key, COUNT) for each in other}
    assert len(pulled.finished("features", RECIPE)) == COUNT - len(theirs) < COUNT


@pytest.mark.parametrize("folder", [INDEX, FEATURES])
def test_nothing_is_taken_without_the_table_of_rejects(pulled, folder):
    rejects_path(outputs.STAGES[folder]).unlink()
    assert not adopt(pulled, MADE[folder].table, RECIPE, folder)


def test_a_changed_or_missing_table_of_images_is_not_taken(pulled):
    path = INDEX / "images.parquet"
    images = schemas.from_bytes(path.read_bytes())
    at = images.schema.get_field_index("width")
    changed = images.set_column(at, "width", [[1] * images.num_rows]).cast(images.schema)
    rewrite(path, schemas.to_bytes(changed))
    assert not adopt(pulled, "images", RECIPE, INDEX)
    path.unlink()
    assert not adopt(pulled, "images", RECIPE, INDEX)


def test_columns_of_the_users_own_pattern_are_no_part_of_the_pieces_of_the_index(pulled):
    """`index.pattern` adds them to the table of images."""
    path = INDEX / "images.parquet"
    images = schemas.from_bytes(path.read_bytes())
    rewrite(path, schemas.to_bytes(images.append_column("site", [["reef"] * images.num_rows])))
    assert adopt(pulled, "images", RECIPE, INDEX)
    assert stored(pulled, "images") == stored(Store(open_storage("earlier")), "images")


def test_a_manifest_of_an_earlier_version_is_not_used(pulled):
    """It says neither how many shards there are nor what was rejected of each."""
    path = outputs.manifest_path(FEATURES)
    manifest = json.loads(path.read_text())
    without = [{key: line[key] for key in line if key != "rejects"} for line in manifest["shards"]]
    edit_manifest(FEATURES, shards=without)
    assert not adopt(pulled, "features", RECIPE, FEATURES)
    del manifest["shards_count"]
    rewrite(path, json.dumps(manifest).encode())
    assert not adopt(pulled, "features", RECIPE, FEATURES)
    shutil.rmtree(path.parent)
    assert not adopt(pulled, "features", RECIPE, FEATURES)
