"""Tables of earlier stages: read whole or by shards, or an error that says which stage to run."""

from __future__ import annotations

import pyarrow as pa
import pytest
from store_rows import chips, features, headers

from pipeline.core import rejects, schemas
from pipeline.core.errors import InputError
from pipeline.core.rejects import Reject
from pipeline.store import outputs, tables
from pipeline.store.outputs import CHIPS, FEATURES, INDEX, LABELS, out, rejects_path, shard_path

KEYS = ["a.png", "b.png", "c.png", "d.png"]


def publish(folder, files):
    lines = [
        {"shard": int(path.stem), "rows": 1, "sha256": "", "input": ""}
        for path in files
        if path.stem.isdigit()
    ]
    files = {path: out(schemas.to_bytes(table)) for path, table in files.items()}
    outputs.publish(folder, files, {"stage": outputs.STAGES[folder], "shards": lines})


@pytest.fixture(autouse=True)
def _clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_table_that_cannot_be_read_is_an_error_in_one_line(tmp_path, harm):
    path = tmp_path / "a.parquet"
    if harm == "damaged":
        path.write_bytes(b"PAR1 is not enough")
    with pytest.raises(InputError) as error:
        tables.read(path)
    said = str(error.value)
    assert said.startswith(f"{path}: cannot be read (")
    assert said.endswith("); dvc repro makes it again")
    assert " ".join(said.split()) == said
    assert {"gone": "(no such file)", "damaged": "Parquet"}[harm] in said
    assert error.value.__cause__ is not None


def test_images_and_labels_are_read_whole_or_by_columns():
    images = headers(KEYS).append_column("shard", pa.array([0] * 4, pa.int32()))
    labels = chips(KEYS).select(["chip_id", "key", "row", "col"])
    publish(INDEX, {INDEX / "images.parquet": images})
    publish(LABELS, {LABELS / "labels.parquet": labels})
    assert tables.images().equals(images)
    assert tables.images(("key", "size")).equals(images.select(["key", "size"]))
    assert tables.labels().equals(labels)
    assert tables.labels(("key", "row")).equals(labels.select(["key", "row"]))


@pytest.mark.parametrize(
    ("read", "folder", "stage"),
    [
        (tables.images, INDEX, "index"),
        (lambda: list(tables.chips()), CHIPS, "chip"),
        (tables.labels, LABELS, "chip"),
        (tables.decoder_warnings, FEATURES, "extract"),
    ],
)
def test_a_table_whose_stage_has_not_finished_is_not_read(read, folder, stage):
    """Its files may be there: those of a stage that has failed."""
    publish(folder, {folder / "images.parquet": headers(KEYS)})
    outputs.set_manifest_aside(folder)
    with pytest.raises(InputError) as error:
        read()
    said = f"{folder}: has no manifest; run the {stage} stage first (dvc repro {stage})"
    assert str(error.value) == said


def test_chips_are_read_one_shard_at_a_time():
    """A table of all would not fit in memory."""
    shards = {shard_path(CHIPS, n): chips([key]) for n, key in enumerate(KEYS)}
    publish(CHIPS, shards)
    parts = tables.chips()
    assert next(parts).equals(chips(KEYS[:1]))
    shard_path(CHIPS, 3).unlink()
    assert [part["key"].to_pylist() for part in (next(parts), next(parts))] == [
        ["b.png"],
        ["c.png"],
    ]
    with pytest.raises(InputError, match="data/chips/0003.parquet: cannot be read"):
        next(parts)
    assert next(tables.chips(("key", "left"))).column_names == ["key", "left"]


def test_decoder_warnings_are_those_of_all_shards_by_key():
    rows = features(KEYS)
    at = rows.schema.get_field_index("decoder_warning")
    warned = rows.set_column(at, "decoder_warning", [["late", None, "short", "odd"]])
    publish(
        FEATURES, {shard_path(FEATURES, 0): warned.slice(2), shard_path(FEATURES, 1): warned[:2]}
    )
    found = tables.decoder_warnings()
    assert found.column_names == ["chip_id", "key", "decoder_warning"]
    assert found["key"].to_pylist() == ["a.png", "c.png", "d.png"]
    assert found["decoder_warning"].to_pylist() == ["late", "short", "odd"]


def test_the_rejects_of_three_stages_are_one_sorted_table():
    found = {
        "index": Reject("index", "b.png", "not_an_image", "no"),
        "chip": Reject("chip", "a.png", "points_outside", "out", 1, 2),
        "extract": Reject("extract", "c.png", "truncated", "short", 1, 2),
        "validate": Reject("validate", "d.png", "corrupt", "bad"),
    }
    for stage, reject in found.items():
        path = rejects_path(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(schemas.to_bytes(rejects.table([reject])))
    assert tables.rejected().equals(
        rejects.table([found["index"], found["chip"], found["extract"]])
    )
    assert tables.rejected()["stage"].to_pylist() == ["chip", "extract", "index"]
