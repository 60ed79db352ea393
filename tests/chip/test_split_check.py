"""Empty splits stop the chip stage, with what is in each split and shares that would work."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chip import split_check
from pipeline.config.sections import SplitParams
from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import split_of


def labels_of(groups, split, label="a"):
    """One chip of each group."""
    shares = split.model_dump(include={"validation", "calibration", "test"})
    rows = [
        {"chip_id": at.to_bytes(16, "big"), "key": group, "row": 0, "col": 0, "label": label}
        | {"group": group, "split": split_of(group, **shares)}
        for at, group in enumerate(groups)
    ]
    return pa.Table.from_pylist(rows, schemas.LABELS)


GROUPS = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12, unique=True)
SHARE = st.sampled_from([0.0, 0.05, 0.15, 0.2])


SETTINGS = st.builds(SplitParams, validation=SHARE, calibration=SHARE, test=SHARE)


@given(GROUPS, SETTINGS)
def test_the_shares_that_the_message_suggests_leave_no_split_empty(groups, split):
    labels = labels_of(groups, split)
    wanted = {name for name in ("validation", "calibration", "test") if getattr(split, name)}
    if wanted | {"train"} <= set(labels["split"].to_pylist()):
        split_check.check(labels, split, None)
        return
    with pytest.raises(InputError, match="no labelled chip is in the") as raised:
        split_check.check(labels, split, None)
    suggested = dict(re.findall(r"split\.(\w+): ([\d.]+)", str(raised.value)))
    if suggested:
        better = split.model_copy(update={name: float(v) for name, v in suggested.items()})
        split_check.check(labels_of(groups, better), better, None)
    else:
        assert "choose smaller groups" in str(raised.value)


def test_the_message_counts_the_labelled_chips_by_class_and_split():
    split = SplitParams(validation=0.01, calibration=0)
    labels = pa.concat_tables([labels_of(["x", "y"], split, "sand;weed"), labels_of(["z"], split)])
    with pytest.raises(InputError) as raised:
        split_check.check(labels, split, ";")
    message = str(raised.value)
    assert message.startswith(
        "split: no labelled chip is in the validation split, of 3 groups with labels; set split.v"
    )
    assert re.search(r"^  sand +2 +0 +0 +0$", message, re.MULTILINE)
    assert re.search(r"^  weed +2 +0 +0 +0$", message, re.MULTILINE)
    assert re.search(r"^  a +1 +0 +0 +0$", message, re.MULTILINE)


def test_many_classes_make_no_long_message():
    split = SplitParams(validation=0.01, calibration=0)
    labels = pa.concat_tables([labels_of(["x"], split, f"class {at:02}") for at in range(25)])
    with pytest.raises(InputError, match="and 5 more classes"):
        split_check.check(labels, split, None)


def test_without_any_label_there_is_nothing_to_split():
    split = SplitParams()
    split_check.check(labels_of(["x"], split, label=None), split, None)


def test_the_summary_has_chips_and_groups_of_each_split():
    split = SplitParams(validation=0.5, calibration=0)
    labels = labels_of([str(at) for at in range(100)], split)
    counted = labels["split"].to_pylist()
    train, validation = counted.count("train"), counted.count("validation")
    assert split_check.summary(labels) == (
        f"labelled chips: train {train} of {train} groups, calibration 0 of 0 groups, "
        f"validation {validation} of {validation} groups"
    )
