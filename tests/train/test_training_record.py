"""What a classifier was trained on, in a small file beside it."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.sections import SplitParams
from pipeline.core.errors import InputError
from pipeline.train import training_record
from pipeline.train.training_record import TrainingRecord

SPLIT = SplitParams(by="folder", validation=0.3)


def rows(pairs):
    """Make labelled chips of (group, key)."""
    groups, keys = zip(*pairs, strict=True)
    return pa.table({"group": pa.array(groups, pa.string()), "key": pa.array(keys, pa.string())})


def written(folder, record):
    """Write the record to *folder*, and return its card."""
    (folder / training_record.FILE).write_bytes(record.file())
    return record.card()


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1), st.randoms())
def test_the_order_and_number_of_chips_change_no_byte(pairs, random):
    shuffled = [*pairs, *pairs[:2]]
    random.shuffle(shuffled)
    half = len(shuffled) // 2  # at least 1
    once = TrainingRecord.of([rows(pairs)], SPLIT)
    again = TrainingRecord.of([rows(shuffled[:half]), rows(shuffled[half:])], SPLIT)
    assert once.file() == again.file()
    assert once.card() == again.card()


def test_a_record_knows_its_groups_and_images_when_it_is_read_again(tmp_path):
    record = TrainingRecord.of([rows([("site 1", "a.jpg"), ("site 2", "ä.jpg")])], SPLIT)
    card = written(tmp_path, record)
    about = card["trained_on"]
    assert (about["groups"], about["images"], about["file"]) == (2, 2, "trained_on.safetensors")
    assert about["split"].items() >= {"by": "folder", "validation": 0.3}.items()
    found = training_record.read(tmp_path, card)
    assert found.split["by"] == "folder"
    groups = pa.chunked_array([["site 2", "site 3"], ["site 1", "site 2"]])
    assert found.has_groups(groups).tolist() == [True, False, True, True]
    assert found.has_images(pa.chunked_array([["b.jpg", "ä.jpg"]])).tolist() == [False, True]


def test_100_000_groups_take_less_than_a_megabyte():
    record = TrainingRecord.of([rows([(f"group {n}", "a.jpg") for n in range(100_000)])], SPLIT)
    assert len(record.file()) < 1e6


def test_a_classifier_without_a_record_has_none(tmp_path):
    assert training_record.read(tmp_path, {"classes": []}) is None


def test_a_record_that_is_missing_or_damaged_is_refused(tmp_path):
    card = written(tmp_path, TrainingRecord.of([rows([("g", "a.jpg")])], SPLIT))
    (tmp_path / training_record.FILE).write_bytes(b"other bytes")
    with pytest.raises(InputError, match="is not the one that model.json describes"):
        training_record.read(tmp_path, card)
    (tmp_path / training_record.FILE).unlink()
    with pytest.raises(InputError, match="says what the classifier was trained on"):
        training_record.read(tmp_path, card)
    with pytest.raises(InputError, match="its record of what it was trained on is damaged"):
        training_record.read(tmp_path, {"trained_on": 5})
