"""Two classifiers are compared on the groups that neither was trained on."""

import logging

import pyarrow as pa
import pytest
from synthetic_predictions import random_table, with_keys

from pipeline.config.sections import SplitParams
from pipeline.core.errors import SettingError
from pipeline.train.training_record import TrainingRecord
from pipeline.validate.comparable import Today, are_used, compare_on_unused
from pipeline.validate.predictions import Predictions


def record(by, **names):
    """Make the record of chips of these groups and images."""
    rows = pa.table({name: pa.array(values, pa.string()) for name, values in names.items()})
    return TrainingRecord.of([rows], SplitParams(by=by))


def today(by, keys, own=None, **fields):
    """Make what groups are today, of images with *keys*."""
    own = own or record(by, group=["other"], key=["other.jpg"])
    return Today(pa.table({"key": pa.array(keys, pa.string()), **fields}), by, own)


def used(chips, earlier, now):
    """Return which of *chips*, of (key, group), are used."""
    keys, groups = zip(*chips, strict=True)
    columns = {"key": pa.chunked_array([keys]), "group": pa.chunked_array([groups])}
    return are_used(pa.table(columns), earlier, now).tolist()


CHIPS = [("s1/a.jpg", "s1"), ("s1/b.jpg", "s1"), ("s2/c.jpg", "s2"), ("s3/d.jpg", "s3")]
KEYS = [key for key, _ in CHIPS]


def test_a_group_of_the_same_kind_is_used_if_its_name_is_recorded():
    earlier = record("folder", group=["s2", "s9"], key=["s2/older.jpg", "s9/x.jpg"])
    assert used(CHIPS, earlier, today("folder", KEYS)) == [False, False, True, False]


def test_a_larger_group_is_used_if_any_of_its_images_is():
    """Trained on an image of site 1, it has seen site 1: another image of it is no new site."""
    earlier = record("image", group=["s1/b.jpg"], key=["s1/b.jpg"])
    assert used(CHIPS, earlier, today("folder", KEYS)) == [True, True, False, False]


def test_a_smaller_group_is_used_if_the_larger_one_of_then_was():
    """Trained on folder s1, when b.jpg had no label yet: it has seen the place of b.jpg."""
    chips = [(key, key) for key in KEYS]
    earlier = record("folder", group=["s1"], key=["s1/a.jpg"])
    assert used(chips, earlier, today("image", KEYS)) == [True, True, False, False]


def test_a_field_of_the_images_is_looked_up_and_one_that_is_gone_is_not():
    earlier = record("reef", group=["north"], key=["s9/x.jpg"])
    reefs = pa.array(["north", "south", "south", "north"])
    now = today("folder", KEYS, reef=reefs)
    assert used(CHIPS, earlier, now) == [True, True, False, True]
    assert used(CHIPS, earlier, today("folder", KEYS)) == [False] * 4


def test_an_image_with_groups_of_several_splits_says_nothing_of_its_other_groups():
    """Specimens of one collage: each is in the split of its own name."""
    chips = [("collage.tif", "specimen 1"), ("collage.tif", "specimen 2")]
    earlier = record("group", group=["specimen 2", "specimen 3"], key=["collage.tif"] * 2)
    own = record("group", group=["specimen 3"], key=["collage.tif"])
    assert used(chips, earlier, today("group", ["collage.tif"], own)) == [False, True]
    # A site that was given another name is the same site.
    assert used(chips, earlier, today("group", ["collage.tif"])) == [True, True]


def predictions(n_groups=4):
    """Make the predictions of two classifiers for the same 200 chips."""
    made = random_table(1, n_groups=n_groups)[0]
    keys = [f"{group}.jpg" for group in made["group"].to_pylist()]
    classes = random_table(1)[1]
    return tuple(Predictions(with_keys(made, keys), classes, None) for _ in range(2))


def test_both_are_evaluated_on_the_groups_that_are_left(caplog):
    both = predictions()
    earlier = record("group", group=["g1", "g3"], key=["x.jpg"] * 2)
    with caplog.at_level(logging.INFO):
        found = compare_on_unused("old", both, earlier, today("group", ["x.jpg"]))
    assert found.this.group_names == found.other.group_names == ["g0", "g2"]
    assert found.n_used == 200 - found.this.n
    assert found.has_record
    left = f"validate.compare: 'old': {found.this.n} chips of 2 groups are left"
    assert left in caplog.text


def test_nothing_is_left_out_if_the_splits_are_the_same():
    found = compare_on_unused(
        "old", predictions(), record("group", group=["g7"], key=["x.jpg"]), today("group", [])
    )
    assert (found.this.n, found.n_used) == (200, 0)


def test_fewer_than_two_groups_are_refused():
    earlier = record("group", group=["g0", "g1", "g3"], key=["x.jpg"] * 3)
    with pytest.raises(SettingError, match="^validate.compare: 'old' was trained or"):
        compare_on_unused("old", predictions(), earlier, today("group", ["x.jpg"]))
    earlier = record("group", group=["g0", "g1", "g2", "g3"], key=["x.jpg"] * 4)
    with pytest.raises(SettingError, match="of 200 validation chips, 0 chips of 0 groups are left"):
        compare_on_unused("old", predictions(), earlier, today("group", ["x.jpg"]))


def test_without_a_record_a_warning_names_the_risk(caplog):
    found = compare_on_unused("old", predictions(), None, today("group", []))
    assert not found.has_record
    assert "'old' does not record what it was trained on" in caplog.text
    assert "it looks better than it is" in caplog.text
