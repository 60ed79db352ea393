"""One image's walk, told from the tables alone."""

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
def walked(tmp_path, monkeypatch):
    """Stand in a checkout of one image with one chip, whose classifier gives several labels."""
    monkeypatch.chdir(tmp_path)
    window = {"top": 0, "left": 0, "height": 8, "width": 10}
    judged = {
        "label": "coral",
        "predicted": "coral;sand",
        "score": 0.4,
        "probabilities": [0.9, 0.3, 0.5],
    }
    tables = {
        "data/index/images": IMAGE,
        "data/chips/0000": {**CHIP, **window},
        "results/predictions": {**CHIP, **judged},
    }
    for name, row in tables.items():
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), path)
    card = {"classes": ["coral", "fish", "sand"], "label_separator": ";"}
    (tmp_path / "models/classifier").mkdir(parents=True)
    (tmp_path / "models/classifier/model.json").write_text(json.dumps(card), encoding="utf-8")


@pytest.mark.usefixtures("walked")
def test_one_chip_is_one_chip(capsys):
    assert trace.main(["a.png"]) == 0
    assert "chip      1 chip; (4, 5) → window 0, 0, 8 × 10" in capsys.readouterr().out
    assert trace.main(["a.png", "1", "1"]) == 0
    assert "chip      1 chip, none there" in capsys.readouterr().out


@pytest.mark.usefixtures("walked")
def test_next_to_several_answers_is_the_likeliest_class_that_was_not_given(capsys):
    assert trace.main(["a.png"]) == 0
    expected = "coral;sand 0.40 (wrong: is coral) · next fish 0.30"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["--help"], 0), (["a.png", "4"], 2), (["a.png", "4", "b"], 2)],
)
def test_what_is_no_question_is_told_how_to_ask(arguments, code, capsys):
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


def test_a_damaged_table_ends_the_walk_with_a_sentence(images, capsys):
    images.write_bytes(images.read_bytes()[:-9] + b"\xff" * 9)
    assert trace.main([KEY]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("data/index/images.parquet: cannot be read (")
    assert said.err.endswith("); dvc repro makes it again\n")


def test_a_table_without_the_columns_that_are_asked_for_is_said(images):
    with pytest.raises(InputError, match=r"images.parquet: cannot be read \(No match for FieldRef"):
        tables.read(images, ["version"])


@pytest.mark.parametrize("place", [["1"], ["1", "x"], ["1.5", "2"], ["", "2"], ["1", "9" * 5000]])
def test_a_place_that_is_none_gets_the_usage(images, capsys, place):
    assert trace.main([KEY, *place]) == 2
    assert "usage: python -m stages.trace KEY [ROW COL]" in capsys.readouterr().out
