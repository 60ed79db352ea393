"""Chips: which windows each method gives, and which annotations cannot be used."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import chips, schemas
from pipeline.chips import Place, grid, points, whole
from pipeline.errors import SettingError
from pipeline.sections import Annotations


def windows(part, place, **settings):
    params = part.Params(method=part.__name__.rpartition(".")[2], **settings)
    return [window for _, _, window in part.windows(place, params)]


SIZES = st.integers(1, 120)


@given(SIZES, SIZES, st.integers(1, 50), st.integers(1, 50))
def test_grid_drop_keeps_to_the_image_and_misses_less_than_a_step(height, width, size, stride):
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge="drop")
    assert all(
        t >= 0 and x >= 0 and t + size <= height and x + size <= width for t, x, _, _ in found
    )
    down = max(0, (height - size) // stride + 1) if height >= size else 0
    across = max(0, (width - size) // stride + 1) if width >= size else 0
    assert len(found) == len(set(found)) == down * across


@given(SIZES, SIZES, st.integers(1, 50), st.data(), st.sampled_from(["pad", "shift"]))
def test_grid_pad_and_shift_cover_every_pixel(height, width, size, data, edge):
    stride = data.draw(st.integers(1, size))
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge=edge)
    rows = {row for top, _, _, _ in found for row in range(top, top + size)}
    cols = {col for _, left, _, _ in found for col in range(left, left + size)}
    assert rows >= set(range(height))
    assert cols >= set(range(width))
    assert len(found) == len(set(found))


@given(SIZES, SIZES, st.integers(1, 50), st.data())
def test_grid_shift_reaches_over_the_border_only_of_images_smaller_than_a_window(
    height, width, size, data
):
    stride = data.draw(st.integers(1, size))
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge="shift")
    assert all(top + size <= max(height, size) and top >= 0 for top, _, _, _ in found)
    assert all(left + size <= max(width, size) and left >= 0 for _, left, _, _ in found)


def test_grid_pad_adds_no_window_that_covers_nothing_new():
    found = windows(grid, Place(100, 50, None, None), size=50, stride=25, edge="pad")
    assert [top for top, _, _, _ in found] == [0, 25, 50]


def test_whole_is_the_image():
    assert windows(whole, Place(30, 40, None, None)) == [(0, 0, 30, 40)]


def test_a_point_at_the_corner_reaches_over_the_border():
    assert windows(points, Place(30, 40, 0, 39), size=10) == [(-5, 34, 10, 10)]


IMAGES = pa.table(
    {"key": ["a.png", "b.png"], "version": ["v", "w"], "height": [30, 20], "width": [40, 20]}
)


def annotations(rows):
    columns = [
        {"label": "x", "group": None, "line": str(line), **row} for line, row in enumerate(rows, 2)
    ]
    return pa.Table.from_pylist(columns, schema=schemas.ANNOTATIONS)


def test_points_outside_their_image_are_rejected_with_file_and_line():
    said = annotations(
        [
            {"key": "a.png", "row": 30, "col": 1},
            {"key": "a.png", "row": 1, "col": 40},
            {"key": "b.png", "row": -1, "col": 0},
            {"key": "c.png", "row": 1, "col": 1},
            {"key": "a.png", "row": 29, "col": 39},
        ]
    )
    found, rejects = chips.places(IMAGES, said, points.Params(method="points"), "points.csv")
    assert found["row"].to_pylist() == [29]
    assert sorted((reject.reason, reject.detail) for reject in rejects) == [
        ("no_such_image", "points.csv:5: no image 'c.png' in the index"),
        ("points_outside", "points.csv:2: row 30 lies below a.png, which is 30 pixels high"),
        ("points_outside", "points.csv:3: column 40 lies right of a.png, which is 40 pixels wide"),
        ("points_outside", "points.csv:4: (-1, 0) is negative, outside b.png"),
    ]


def test_a_plan_has_one_chip_a_place_and_its_id_names_the_window():
    said = annotations([{"key": "a.png", "row": 3, "col": 4}, {"key": "a.png", "row": 5, "col": 6}])
    params = points.Params(method="points", size=8)
    places, _ = chips.places(IMAGES, said, params, "points.csv")
    made = chips.plan(places, params)
    assert made.schema.equals(schemas.CHIPS)
    assert made.select(["row", "col", "top", "left"]).to_pylist() == [
        {"row": 3, "col": 4, "top": -1, "left": 0},
        {"row": 5, "col": 6, "top": 1, "left": 2},
    ]
    larger = chips.plan(places, points.Params(method="points", size=10))
    assert set(made["chip_id"].to_pylist()).isdisjoint(larger["chip_id"].to_pylist())


def test_a_plan_of_nothing_is_an_empty_table():
    params = whole.Params(method="whole")
    assert chips.plan(schemas.PLACES.empty_table(), params).schema.equals(schemas.CHIPS)


def test_whole_images_cannot_use_annotated_points():
    params = whole.Params(method="whole")
    message = (
        "chip.method: 'whole' cannot use annotations.format 'points', which speaks of points; "
        "set chip.method to points"
    )
    with pytest.raises(SettingError) as stop:
        chips.check_levels(params, Annotations(format="points"), "point")
    assert str(stop.value) == message
