"""What became of one image, read from the tables alone."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.store import tables
from stages import trace

KEY = "a.png"
CHIP = {"chip_id": b"1" * 16, "key": KEY, "row": 4, "col": 5}
IMAGE = {
    "key": KEY,
    "version": "1",
    "height": 8,
    "width": 10,
    "format": "PNG",
    "more_frames": False,
    "shard": 0,
}


@pytest.fixture
def traced(tmp_path, monkeypatch):
    """Work in a checkout of one image with one chip, whose classifier predicts several labels."""
    monkeypatch.chdir(tmp_path)
    window = {"top": 0, "left": 0, "height": 8, "width": 10}
    evaluated = {
        "label": "coral",
        "predicted": "coral;sand",
        "score": 0.4,
        "probabilities": [0.9, 0.3, 0.5],
    }
    tables = {
        "data/index/images": IMAGE,
        "data/chips/0000": {**CHIP, **window},
        "results/predictions": {**CHIP, **evaluated},
    }
    for name, row in tables.items():
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), path)
    card = {"classes": ["coral", "fish", "sand"], "label_separator": ";"}
    (tmp_path / "models/classifier").mkdir(parents=True)
    (tmp_path / "models/classifier/model.json").write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.usefixtures("traced")
def test_one_chip_is_one_chip(capsys):
    assert trace.main(["a.png"]) == 0
    assert "chip      1 chip; (4, 5) → window 0, 0, 8 × 10" in capsys.readouterr().out
    assert trace.main(["a.png", "1", "1"]) == 0
    assert "chip      1 chip, none there" in capsys.readouterr().out


@pytest.mark.usefixtures("traced")
def test_next_after_several_predicted_labels_is_the_likeliest_other_class(capsys):
    assert trace.main(["a.png"]) == 0
    expected = "coral;sand 0.40 (wrong: is coral) · next fish 0.30"
    assert expected in capsys.readouterr().out


@pytest.mark.usefixtures("traced")
def test_each_step_names_its_table_and_rejects_name_theirs(tmp_path, capsys):
    (tmp_path / "results/predictions.parquet").unlink()
    reject = {"stage": "extract", "key": KEY, "reason": "truncated", "detail": "a.png: cut off"}
    (tmp_path / "data/rejects").mkdir()
    pq.write_table(pa.Table.from_pylist([reject]), tmp_path / "data/rejects/extract.parquet")
    assert trace.main(["a.png"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.png",
        "  index     version '1'  8 × 10 PNG  shard 0  [data/index/images.parquet]",
        "  chip      1 chip; (4, 5) → window 0, 0, 8 × 10  [data/chips/0000.parquet]",
        "  labels    not labelled  [data/labels/labels.parquet]",
        "  extract   no feature  [data/features/0000.parquet]",
        "  validate  not evaluated: another split, no label, or no feature  "
        "[results/predictions.parquet]",
        "  extract   rejected as truncated: a.png: cut off  [data/rejects/extract.parquet]",
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["--help"], 0), (["a.png", "4"], 2), (["a.png", "4", "b"], 2)],
)
def test_wrong_arguments_get_the_usage(arguments, code, capsys):
    assert trace.main(arguments) == code
    assert "usage: python -m stages.trace KEY [ROW COL]" in capsys.readouterr().out


@pytest.fixture
def images(tmp_path, monkeypatch):
    """An index of no image, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data" / "index" / "images.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(schemas.to_bytes(pa.table({"key": [KEY] * 50})))
    return path


def test_a_damaged_table_is_an_error_in_one_sentence(images, capsys):
    images.write_bytes(images.read_bytes()[:-9] + b"\xff" * 9)
    assert trace.main([KEY]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("data/index/images.parquet: cannot be read (")
    assert said.err.endswith("); dvc repro makes it again\n")


def test_a_table_without_the_wanted_columns_is_an_error(images):
    with pytest.raises(InputError, match=r"images.parquet: cannot be read \(No match for FieldRef"):
        tables.read(images, ["version"])


@pytest.mark.parametrize("place", [["1"], ["1", "x"], ["1.5", "2"], ["", "2"], ["1", "9" * 5000]])
def test_a_place_that_is_not_two_numbers_gets_the_usage(images, capsys, place):
    assert trace.main([KEY, *place]) == 2
    assert "usage: python -m stages.trace KEY [ROW COL]" in capsys.readouterr().out
