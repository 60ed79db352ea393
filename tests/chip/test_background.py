"""Background: which unannotated chips are trained on, whatever other images there are."""

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.chip import background, labels, methods
from pipeline.chip.methods import grid, points
from pipeline.config.sections import AnnotationParams, SplitParams
from pipeline.core import hashing, schemas
from pipeline.core.errors import InputError
from pipeline.core.rejects import Reject

SIZE = 10


def images(keys, side=100):
    rows = [{"key": key, "version": "v", "height": side, "width": side} for key in keys]
    return pa.Table.from_pylist(rows, schemas.IMAGES)


def said(*rows):
    return pa.Table.from_pylist([{"line": "2", **row} for row in rows], schemas.ANNOTATIONS)


@settings(max_examples=40)
@given(
    st.sets(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=60),
    st.integers(1, 30),
    st.integers(0, 6),
)
@example(set(), 25, 6)  # of odd size, at the border
def test_free_windows_are_inside_and_overlap_no_others(taken, size, count):
    known = said(*({"key": "a", "row": row, "col": col} for row, col in taken))
    found = background.places(images(["a", "b"]), known, size, count).to_pylist()
    own = {key: [(r["row"], r["col"]) for r in found if r["key"] == key] for key in "ab"}
    assert max(len(own["a"]), len(own["b"])) <= count
    assert len(own["b"]) == count or size > 20
    params = points.Settings(method="points", size=size)
    for key, others in (("a", list(taken)), ("b", [])):
        for place in own[key]:
            _, _, (top, left, high, wide) = next(
                points.windows(methods.Place(100, 100, *place), params)
            )
            assert min(top, left) >= 0
            assert max(top + high, left + wide) <= 100
            assert all(max(abs(place[0] - r), abs(place[1] - c)) >= size for r, c in others)
            others.append(place)


def test_an_image_smaller_than_a_window_has_one_in_its_middle_and_a_full_one_none():
    assert background.places(images(["a"], 7), said(), SIZE, 1)["row"].to_pylist() == [3]
    full = said(
        *({"key": "a", "row": r, "col": c} for r in range(0, 100, 9) for c in range(0, 100, 9))
    )
    assert background.places(images(["a"]), full, SIZE, 3).num_rows == 0


@pytest.mark.parametrize("size", [97, 98, 99, 100])
def test_windows_reach_both_borders(size):
    """Or the pixels there would never be background."""
    keys = [f"{number}.jpg" for number in range(200)]
    found = background.places(images(keys), said(), size, 1)
    tops = {row - (size + 1) // 2 for row in found["row"].to_pylist()}
    assert tops == set(range(100 - size + 1))


def test_places_of_an_image_do_not_depend_on_other_images():
    few = background.places(images(["b"]), said(), SIZE, 3).to_pylist()
    many = background.places(images(["a", "b", "c"]), said(), SIZE, 3).to_pylist()
    assert [row for row in many if row["key"] == "b"] == few


def scenes(n, **section):
    """Labels of *n* images of 100 chips each, of which every third is annotated; and the chips."""
    keys = [f"{i:03d}.png" for i in range(n)]
    params = grid.Settings(method="grid", size=SIZE)
    spoken = said(*({"key": key, "label": "reef", "group": "g"} for key in keys[::3]))
    places, _ = methods.places(images(keys), spoken, params, "")
    every = methods.plan(places, params)
    made = labels.make(every, images(keys), spoken, "image", SplitParams())
    return made, every, AnnotationParams(format="images", **section)


def with_background(n, seed=0):
    made, every, section = scenes(n, background=0.5, background_seed=seed)
    return background.label(made, every, [], section)[0]


def chosen(table, label="background"):
    rows = table.select(["key", "row", "col", "label"]).to_pylist()
    return {(row["key"], row["row"], row["col"]) for row in rows if row["label"] == label}


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.5])
def test_the_ratio_to_labelled_chips_is_met_as_far_as_there_are_candidates(ratio):
    made, every, section = scenes(9, background=ratio)
    found, told = background.label(made, every, [], section)
    assert len(chosen(found)) == min(int(300 * ratio), 600)
    assert told == {"label": "background", "candidates": 600, "chosen": len(chosen(found))}
    assert len(chosen(found, "reef")) == 300
    assert found.drop_columns(["label"]).equals(made.drop_columns(["label"]))


def test_more_images_change_the_choice_at_its_limit_only():
    """Of chips that both know, all below the lower limit are chosen, and none above the higher."""
    few, many = (with_background(n) for n in (30, 36))
    old = set(few["key"].to_pylist())
    before, after = chosen(few), {place for place in chosen(many) if place[0] in old}
    assert before <= after or after <= before
    assert len(before ^ after) < 0.1 * len(before)


def test_another_seed_is_another_choice():
    first, again, other = (chosen(with_background(9, seed)) for seed in (0, 0, 1))
    assert first == again
    assert 0.1 < len(first & other) / len(first) < 0.4  # a quarter of 600, by chance


def test_a_chip_with_a_rejected_annotation_is_no_background():
    made, every, section = scenes(9, background=10.0)
    doubts = [
        Reject("chip", "001.png", "label_conflict", "two labels"),
        Reject("chip", "002.png", "unconfirmed", "a machine's", row=10, col=19),
    ]
    found, told = background.label(made, every, doubts, section)
    assert told["chosen"] == 600 - 100 - 1
    left = {place[1:] for place in chosen(found, None) if place[0] == "002.png"}
    assert left == {(15, 15)}
    assert len([place for place in chosen(found, None) if place[0] == "001.png"]) == 100


def test_background_is_in_the_group_of_its_image_and_not_in_images_of_two_groups():
    """Otherwise an image could be both trained and evaluated on."""
    known = said(
        {"key": "a", "row": 5, "col": 5, "label": "x", "group": "north"},
        {"key": "a", "row": 94, "col": 94, "label": "x", "group": "north"},
        {"key": "c", "row": 5, "col": 5, "label": "x", "group": "north"},
        {"key": "c", "row": 94, "col": 94, "label": "x", "group": "south"},
    )
    keys = images(["a", "b", "c"])
    params = points.Settings(method="points", size=SIZE, background=5)
    spoken = pa.concat_tables([known, background.places(keys, known, SIZE, 5)])
    every = methods.plan(methods.places(keys, spoken, params, "")[0], params)
    made = labels.make(every, keys, spoken, "point", SplitParams())
    found, told = background.label(
        made, every, [], AnnotationParams(format="points", background=5.0)
    )
    rows = [row for row in found.to_pylist() if row["label"] == "background"]
    assert [(row["key"], row["group"]) for row in rows] == [("a", "north")] * 5 + [("b", "b")] * 5
    assert told["candidates"] == 10
    for row in rows:
        assert row["split"] == hashing.split_of(row["group"], validation=0.2, calibration=0.15)


def test_a_background_label_that_annotations_have_is_refused():
    made, every, section = scenes(3, background=1.0, background_label="reef")
    with pytest.raises(InputError) as stop:
        background.label(made, every, [], section)
    assert str(stop.value).startswith(
        "annotations.background_label: 'reef' is a label that annotations have; set another"
    )
