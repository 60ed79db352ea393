"""Shards of outs become pieces of the store, if they are exactly what their manifest says."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.config.machine import machine
from pipeline.core import schemas
from pipeline.store import outputs
from pipeline.store.adoption import adopt
from pipeline.store.context import open_store
from pipeline.store.outputs import CHIPS, FEATURES, INDEX

OUTS = {"images": INDEX, "chips": CHIPS, "features": FEATURES}


@pytest.fixture
def pulled(copy_of_done, monkeypatch):
    """A clone with its outs and without a store, and the store that it had."""
    repo = copy_of_done()
    monkeypatch.chdir(repo.path)
    shutil.move(".quadrat/store", "earlier")
    return open_store(machine())


def recipe(folder):
    return outputs.read_manifest(folder)["recipe"]


def stored(store, table):
    """Every file of a table's pieces but the records, which name the run."""
    items = store.storage.list(f"{table}/")
    return {item.key: store.storage.read(item.key) for item in items if ".json" not in item.key}


@pytest.mark.parametrize("table", OUTS)
def test_a_clones_outs_become_the_pieces_that_they_were_made_of(pulled, monkeypatch, table):
    assert adopt(pulled, table, recipe(OUTS[table]), OUTS[table])
    adopted = stored(pulled, table)
    monkeypatch.setenv("QUADRAT_STORE", "earlier")
    assert adopted == stored(open_store(machine()), table) != {}
    assert not adopt(pulled, table, recipe(OUTS[table]), OUTS[table])


def test_a_manifest_that_a_stage_has_set_aside_still_counts(pulled):
    wanted = recipe(FEATURES)
    outputs.set_manifest_aside(FEATURES)
    assert outputs.read_manifest(FEATURES) is None
    assert adopt(pulled, "features", wanted, FEATURES)


def test_nothing_of_another_recipe_is_taken(pulled):
    """Such as that of features on another kind of machine."""
    assert not adopt(pulled, "features", "0" * 64, FEATURES)
    assert list(pulled.storage.list("features/")) == []


def test_a_shard_whose_bytes_are_not_those_of_the_manifest_is_not_taken(pulled):
    paths = outputs.shard_paths(FEATURES)
    data = paths[0].read_bytes()
    paths[0].unlink()
    paths[0].write_bytes(data[:-9] + b"x" + data[-8:])
    paths[1].unlink()
    assert adopt(pulled, "features", recipe(FEATURES), FEATURES)
    assert len(stored(pulled, "features")) == 3 * (len(paths) - 2)


def test_a_changed_table_of_images_or_rejects_is_not_taken(pulled):
    images = schemas.from_bytes((INDEX / "images.parquet").read_bytes())
    changed = images.set_column(
        images.schema.get_field_index("width"), "width", [[1] * images.num_rows]
    )
    (INDEX / "images.parquet").unlink()
    (INDEX / "images.parquet").write_bytes(schemas.to_bytes(changed.cast(images.schema)))
    assert not adopt(pulled, "images", recipe(INDEX), INDEX)
    outputs.rejects_path("extract").unlink()
    assert not adopt(pulled, "features", recipe(FEATURES), FEATURES)


def test_a_manifest_without_the_rejects_of_its_shards_is_not_used(pulled):
    """As those of earlier versions are."""
    path = outputs.manifest_path(FEATURES)
    manifest = json.loads(path.read_text())
    for line in manifest["shards"]:
        del line["rejects"]
    path.unlink()
    path.write_text(json.dumps(manifest))
    assert not adopt(pulled, "features", recipe(FEATURES), FEATURES)
