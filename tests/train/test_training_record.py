"""What a classifier was trained on, in a small file beside it."""

import hashlib

import numpy as np
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


def test_a_name_is_kept_as_the_first_8_bytes_of_its_blake2b_digest_lowest_first():
    record = TrainingRecord.of([rows([("b", "ä.jpg"), ("a", "ä.jpg"), ("b", "c.jpg")])], SPLIT)
    for found, names in ((record.groups, "ab"), (record.images, ["ä.jpg", "c.jpg"])):
        digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
        assert found.dtype == np.uint64
        assert found.tolist() == sorted(int.from_bytes(part, "little") for part in digests)


def test_100_000_groups_take_less_than_a_megabyte():
    record = TrainingRecord.of([rows([(f"group {n}", "a.jpg") for n in range(100_000)])], SPLIT)
    assert len(record.file()) < 1e6


def test_a_classifier_without_a_record_has_none(tmp_path):
    assert training_record.read(tmp_path, {"classes": []}) is None


def test_a_record_that_is_missing_or_damaged_is_refused(tmp_path):
    card = written(tmp_path, TrainingRecord.of([rows([("g", "a.jpg")])], SPLIT))
    (tmp_path / training_record.FILE).write_bytes(b"other bytes")
    file = f"{tmp_path}/trained_on.safetensors"
    for wrong, message in (
        (
            card,
            f"{file} is not the one that model.json describes; one of them was damaged or changed "
            "since the classifier was trained",
        ),
        ({"trained_on": 5}, f"{tmp_path}: its record of what it was trained on is damaged"),
    ):
        with pytest.raises(InputError) as raised:
            training_record.read(tmp_path, wrong)
        assert str(raised.value) == message
    (tmp_path / training_record.FILE).unlink()
    with pytest.raises(InputError) as raised:
        training_record.read(tmp_path, card)
    assert str(raised.value) == (
        f"{file} cannot be read (No such file or directory): it says what the classifier was "
        "trained on, and belongs to model.json"
    )
