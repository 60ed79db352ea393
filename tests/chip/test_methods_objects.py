"""Chips of annotated objects: one each, or the labels of what covers a grid."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from pipeline.annotations import AnnotationSource, boxes, coco
from pipeline.annotations._merge import to_table
from pipeline.annotations._objects import AnnotatedObject
from pipeline.annotations._values import box, mask, outline
from pipeline.chip import background, labels, methods
from pipeline.chip.methods import _covered, _objects, grid, points, whole
from pipeline.chip.methods import boxes as boxes_method
from pipeline.config import registry
from pipeline.config.sections import SplitParams
from pipeline.core import schemas

IMAGES = pa.table(
    {
        "key": ["a.png", "b.png"],
        "version": ["v", "w"],
        "height": pa.array([30, 20], pa.int32()),
        "width": pa.array([40, 20], pa.int32()),
    }
)


def params(**settings):
    return boxes.Settings(format="boxes", path="x/boxes.csv", **settings)


def said(*objects, images=IMAGES, **settings):
    rows = [
        AnnotatedObject(key, label, line, **shape)
        for line, (key, label, shape) in enumerate(objects, start=2)
    ]
    return _objects.checked(to_table(rows, schemas.OBJECTS), images, params(**settings))


def at(top, left, height, width, **more):
    return {"top": top, "left": left, "height": height, "width": width, **more}


def labelled(places, given, level="chip"):
    rows = labels.make(places, IMAGES, given, level, SplitParams())
    return [(row["key"], row["label"]) for row in rows.to_pylist()]


def test_an_object_is_a_chip_of_its_own_window():
    objects, rejects = said(
        ("a.png", "fish", at(2, 3, 5, 7)),
        ("a.png", "crab", at(2, 3, 6, 8)),
        ("b.png", None, at(0, 0, 20, 20)),
    )
    method = boxes_method.Settings(method="boxes")
    places, given, more = _objects.places(objects, IMAGES, method, params())
    assert rejects + more == []
    windows = ["key", "top", "left", "height", "width", "row", "col"]
    assert [tuple(row.values()) for row in places.select(windows).to_pylist()] == [
        ("a.png", 2, 3, 5, 7, 4, 6),
        ("a.png", 2, 3, 6, 8, 5, 7),
        ("b.png", 0, 0, 20, 20, 10, 10),
    ]
    assert labelled(places, given) == [("a.png", "fish"), ("a.png", "crab"), ("b.png", None)]


def test_a_size_makes_squares_around_the_middles():
    objects, _ = said(("a.png", "fish", at(2, 3, 5, 7)))
    method = boxes_method.Settings(method="boxes", size=4)
    places, _, _ = _objects.places(objects, IMAGES, method, params())
    assert places.select(["top", "left", "height", "width"]).to_pylist() == [
        {"top": 2, "left": 4, "height": 4, "width": 4}
    ]


def test_boxes_around_one_centre_keep_their_own_labels():
    """By row and column they are one place: labels go by the chip."""
    objects, _ = said(("a.png", "polyp", at(9, 9, 3, 3)), ("a.png", "colony", at(5, 5, 11, 11)))
    method = boxes_method.Settings(method="boxes")
    places, given, rejects = _objects.places(objects, IMAGES, method, params())
    assert rejects == []
    assert places["row"].to_pylist() == [10, 10]
    sizes = dict(zip(places["chip_id"].to_pylist(), places["height"].to_pylist(), strict=True))
    made = labels.make(places, IMAGES, given, "chip", SplitParams())
    assert made.num_rows == 2
    assert {sizes[row["chip_id"]]: row["label"] for row in made.to_pylist()} == {
        3: "polyp",
        11: "colony",
    }
    again = schemas.conform(made.take([1, 0]), schemas.LABELS)
    assert schemas.to_bytes(again) == schemas.to_bytes(made)


def test_two_labels_for_one_box_are_a_conflict_or_several_labels():
    objects, _ = said(("a.png", "fish", at(2, 3, 5, 7)), ("a.png", "crab", at(2, 3, 5, 7)))
    method = boxes_method.Settings(method="boxes")
    places, given, rejects = _objects.places(objects, IMAGES, method, params())
    assert [(reject.reason, reject.detail) for reject in rejects] == [
        (
            "label_conflict",
            f"boxes.csv:{line}: a.png (4, 6) is {said!r} here and {other!r} in line {there}; "
            "both rejected as label_conflict",
        )
        for line, said, other, there in ((2, "fish", "crab", 3), (3, "crab", "fish", 2))
    ]
    assert labelled(places, given) == [("a.png", None)]
    several = params(label_separator=";")
    places, given, rejects = _objects.places(objects, IMAGES, method, several)
    assert rejects == []
    assert labelled(places, given) == [("a.png", "crab;fish")]


def test_a_box_is_cut_off_at_the_border_and_rejected_if_it_is_wholly_outside():
    objects, rejects = said(
        ("a.png", "half", at(-5, 35, 10, 10)),
        ("a.png", "out", at(30, 0, 5, 5)),
        ("a.png", "scaled", at(0, 0, 5, 5, image_height=60, image_width=80)),
        ("c.png", "gone", at(0, 0, 5, 5)),
        ("A.PNG", "near", at(0, 0, 5, 5)),
        ("a.png", "point", {"row": 30, "col": 2}),
    )
    method = boxes_method.Settings(method="boxes")
    places, _, _ = _objects.places(objects, IMAGES, method, params())
    assert places.select(["top", "left", "height", "width"]).to_pylist() == [
        {"top": 0, "left": 35, "height": 5, "width": 5}
    ]
    assert sorted((reject.reason, reject.detail) for reject in rejects) == [
        ("no_such_image", "boxes.csv:5: no image 'c.png' in the index"),
        (
            "no_such_image",
            "boxes.csv:6: no image 'A.PNG' in the index, which has 'a.png': the same but for case, "
            "space, slashes or the form of a letter",
        ),
        (
            "other_size",
            "boxes.csv:4: a.png is 60 × 80 here, and 30 × 40 in the bucket; it was scaled, or "
            "turned by its EXIF orientation (see annotations.frame)",
        ),
        ("points_outside", "boxes.csv:7: (30, 2) lies outside a.png, which is 30 × 40"),
        ("window_outside", "boxes.csv:3: the object lies outside a.png, which is 30 × 40"),
    ]


def test_chips_around_points_are_centred_on_the_middles_of_objects():
    objects, _ = said(
        ("a.png", "box", at(2, 3, 5, 7)),
        ("a.png", "point", {"row": 9, "col": 8}),
        ("a.png", "word", {}),
        ("a.png", "many", at(0, 0, 9, 9, crowd=True)),
    )
    given, rejects = _objects.middles(objects, params())
    assert [(row["row"], row["col"], row["label"]) for row in given.to_pylist()] == [
        (4, 6, "box"),
        (9, 8, "point"),
    ]
    assert [(reject.reason, reject.detail) for reject in rejects] == [
        ("no_shape", "boxes.csv:4: has no point, and chip.method asks for one; left out"),
        ("no_shape", "boxes.csv:5: is a crowd, and chip.method asks for one; left out"),
    ]
    places, outside = methods.places(IMAGES, given, points.Settings(method="points"), "boxes.csv")
    assert (places.num_rows, outside) == (2, [])


def covered(objects, size=10, **settings):
    """The labels of a grid's chips, by row and column of their windows."""
    method = grid.Settings(method="grid", size=size, edge="pad")
    places, _ = methods.places(IMAGES, schemas.ANNOTATIONS.empty_table(), method, "boxes.csv")
    every = methods.plan(places, method)
    given, rejects = _covered.annotate(every, objects, params(**settings))
    made = labels.make(every, IMAGES, given, "chip", SplitParams())
    top_left = dict(
        zip(
            every["chip_id"].to_pylist(),
            zip(
                every["key"].to_pylist(),
                every["top"].to_pylist(),
                every["left"].to_pylist(),
                strict=True,
            ),
            strict=True,
        )
    )
    found = {top_left[row["chip_id"]]: row["label"] for row in made.to_pylist() if row["label"]}
    return found, rejects


def test_a_grid_is_labelled_by_what_covers_the_middles():
    objects, _ = said(("a.png", "kelp", at(0, 0, 16, 16)), ("b.png", "sand", {}))
    found, rejects = covered(objects)
    # Middles are the pixels 5 and 15 of the image: 16 lines reach over both.
    assert found == {
        **{("a.png", top, left): "kelp" for top in (0, 10) for left in (0, 10)},
        **{("b.png", top, left): "sand" for top in (0, 10) for left in (0, 10)},
    }
    assert rejects == []


def test_a_point_labels_the_chip_whose_middle_it_is():
    objects, _ = said(
        ("a.png", "kelp", {"row": 15, "col": 25}), ("a.png", "off", {"row": 15, "col": 26})
    )
    found, rejects = covered(objects)
    assert found == {("a.png", 10, 20): "kelp"}
    assert [reject.detail for reject in rejects] == [
        "boxes.csv:3: is a point that is no chip's middle, and chip.method asks for one; left out"
    ]


def test_a_grid_is_labelled_by_what_covers_most():
    halves = (
        outline([[0, 0, 40, 0, 40, 5, 0, 5]]),
        outline([[0, 5, 25, 5, 25, 10, 0, 10]]),
    )
    objects, _ = said(
        ("a.png", "kelp", halves[0]),
        ("a.png", "kelp", halves[1]),
        ("a.png", "sand", at(11, 0, 19, 10)),
    )
    found, rejects = covered(objects, labelled_by="most")
    # Two halves of one label are a whole, as are a half and a quarter most; half of a chip is not.
    assert found == {
        ("a.png", 0, 0): "kelp",
        ("a.png", 0, 10): "kelp",
        ("a.png", 0, 20): "kelp",
        ("a.png", 10, 0): "sand",
        ("a.png", 20, 0): "sand",
    }
    assert rejects == []


def test_two_objects_over_one_middle_are_a_conflict_and_the_image_keeps_one_group():
    objects, _ = said(
        ("a.png", "kelp", at(0, 0, 10, 10, group="s1")),
        ("a.png", "fish", at(4, 4, 3, 3, group="s1")),
    )
    found, rejects = covered(objects)
    assert found == {}
    assert [reject.detail for reject in rejects] == [
        "boxes.csv:2: a.png (5, 5) is 'kelp' here and 'fish' in line 3; "
        "both rejected as label_conflict"
    ]
    assert covered(objects, label_separator=";")[0] == {("a.png", 0, 0): "fish;kelp"}
    method = whole.Settings(method="whole")
    every = methods.plan(
        methods.places(IMAGES, schemas.ANNOTATIONS.empty_table(), method, "")[0], method
    )
    given, _ = _covered.annotate(every, objects, params())
    made = labels.make(every, IMAGES, given, "chip", SplitParams())
    assert made["group"].to_pylist() == ["s1", "b.png"]


def test_a_chip_that_an_object_overlaps_is_no_background():
    """Most of such a chip may be bare, but no annotation says so."""
    objects, _ = said(
        ("a.png", "kelp", at(0, 0, 12, 10)), ("a.png", "spot", {"row": 24, "col": 36})
    )
    method = grid.Settings(method="grid", size=10, edge="drop")
    places, _ = methods.places(IMAGES, schemas.ANNOTATIONS.empty_table(), method, "")
    every = methods.plan(places, method)
    section = params(background=100.0)
    given, _ = _covered.annotate(every, objects, section)
    made = labels.make(every, IMAGES, given, "chip", SplitParams())
    told, _ = background.label(made, every, [], section, _covered.touched(every, objects))
    windows = dict(zip(every["chip_id"].to_pylist(), every.to_pylist(), strict=True))
    found = {
        (window["top"], window["left"]): row["label"]
        for row in told.to_pylist()
        for window in [windows[row["chip_id"]]]
        if window["key"] == "a.png"
    }
    assert found.pop((0, 0)) == "kelp"
    assert [found.pop(place) for place in [(10, 0), (20, 30)]] == [None, None]
    assert set(found.values()) == {"background"}
    assert len(found) == 9


CORNERS = st.lists(
    st.tuples(st.floats(-5, 45, width=32), st.floats(-5, 45, width=32)), min_size=3, max_size=8
)


@settings(deadline=None)
@given(CORNERS, st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12))
def test_an_outline_covers_the_pixels_whose_middles_are_in_it(corners, top, left, height, width):
    corners = [(x + 0.0137, y + 0.0219) for x, y in corners]  # no edge through a middle
    shape = {"outline": [[value for corner in corners for value in corner]], "pixels": None}
    found = _covered.covered(shape, (top, left, height, width))
    middles = [
        (col + 0.5, row + 0.5)
        for row in range(top, top + height)
        for col in range(left, left + width)
    ]
    want = points_in_poly(middles, corners).reshape(height, width)
    assert np.array_equal(found, want)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.data())
def test_a_mask_and_a_box_cover_exactly_their_pixels(top, left, data):
    bits = data.draw(st.lists(st.booleans(), min_size=30, max_size=30))
    pixels = np.array(bits).reshape(5, 6)
    assume(pixels.any())
    whole_image = np.zeros((20, 20), bool)
    whole_image[top : top + 5, left : left + 6] = pixels
    shape = {"outline": None, **mask(pixels, top, left)}
    assert np.array_equal(_covered.covered(shape, (0, 0, 20, 20)), whole_image)
    assert np.array_equal(_covered.covered(shape, (3, 4, 5, 6)), whole_image[3:8, 4:10])
    square = {"outline": None, "pixels": None, **box(left, top, left + 6, top + 5)}
    found = _covered.covered(square, (0, 0, 20, 20))
    assert found.sum() == 30
    assert found[top : top + 5, left : left + 6].all()


@pytest.mark.parametrize("method", ["boxes", "points", "grid", "whole", "flowcam"])
def test_every_chip_method_can_use_objects(method):
    part = registry.find("chip.methods", method, key="chip.method")
    methods.check_levels(part.Settings(method=method), params(), "object")


def test_a_mask_that_is_cut_at_the_border_keeps_its_position():
    said_so = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "kelp"}],
        "annotations": [
            {
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[-10, -10, 10, -10, 10, 10, -10, 10]],
            }
        ],
    }
    source = AnnotationSource("c", json.dumps(said_so).encode(), ["a.png"], [(30, 40)])
    found, _ = coco.read(source, coco.Settings(format="coco", path="c"))
    objects, rejects = _objects.checked(found, IMAGES, params())
    assert rejects == []
    assert covered(objects, labelled_by="most")[0] == {("a.png", 0, 0): "kelp"}
