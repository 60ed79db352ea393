"""Chip methods: the windows of each, and the annotations that cannot be used."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chip import methods
from pipeline.chip.methods import Place, grid, points, whole
from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.errors import SettingError


def windows(part, place, **settings):
    params = part.Settings(method=part.__name__.rpartition(".")[2], **settings)
    return [window for _, _, window in part.windows(place, params)]


SIZES = st.integers(1, 120)


def counted(height, width, found):
    """How many windows each pixel of the image is in, and of the pixels around it."""
    reach = max([height, width, *(max(t + h, x + w) for t, x, h, w in found)])
    count = np.zeros((reach, reach), int)
    for top, left, high, wide in found:
        assert min(top, left) >= 0
        count[top : top + high, left : left + wide] += 1
    return count[:height, :width], count


def along(starts, size, length):
    """How many windows of *size* at *starts* each of *length* pixels is in."""
    return [sum(start <= at < start + size for start in starts) for at in range(length)]


GRID = given(SIZES, SIZES, st.integers(1, 50), st.integers(1, 60))


@GRID
def test_grid_drop_keeps_to_the_image_and_misses_less_than_a_step(height, width, size, stride):
    """Windows at 0, stride, 2 strides, … as long as they lie wholly inside, and no other."""
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge="drop")
    tops, lefts = ([at for at in range(0, n, stride) if at + size <= n] for n in (height, width))
    assert found == [(top, left, size, size) for top in tops for left in lefts]
    inside, every = counted(height, width, found)
    assert every.sum() == inside.sum() == len(found) * size**2
    if stride == size:
        covered = np.zeros((height, width), int)
        covered[: height // size * size, : width // size * size] = 1
        assert np.array_equal(inside, covered)


@GRID
def test_grid_pad_goes_on_at_equal_steps_until_every_pixel_is_covered(height, width, size, stride):
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge="pad")
    tops, lefts = (sorted({window[axis] for window in found}) for axis in (0, 1))
    assert found == [(top, left, size, size) for top in tops for left in lefts]
    inside, _ = counted(height, width, found)
    for starts, length in ((tops, height), (lefts, width)):
        assert starts == list(range(0, len(starts) * stride, stride))
        # No window covers nothing new, and with the last one nothing is left that a step reaches.
        assert all(start + size - stride < length for start in starts[1:])
        assert starts[-1] + size >= length or starts[-1] + stride >= length
    if stride <= size:
        assert inside.min() == 1 if stride == size else inside.min() >= 1
    if stride == size:
        assert inside.max() == 1


@GRID
def test_grid_shift_moves_only_the_last_window_back_inside(height, width, size, stride):
    found = windows(grid, Place(height, width, None, None), size=size, stride=stride, edge="shift")
    tops, lefts = (sorted({window[axis] for window in found}) for axis in (0, 1))
    assert found == [(top, left, size, size) for top in tops for left in lefts]
    for starts, length in ((tops, height), (lefts, width)):
        assert starts[:-1] == list(range(0, (len(starts) - 1) * stride, stride))
        # The last one ends with the image; an image smaller than a window has one, from 0 on.
        assert starts[-1] + size == length or starts[-1] == (len(starts) - 1) * stride
        assert starts[-1] + size <= length or starts == [0]
        assert starts[-1] + size >= length
        if stride == size:
            assert max(along(starts, size, length)) <= 2
    inside, every = counted(height, width, found)
    assert inside.min() >= 1 or stride > size
    if min(height, width) >= size:
        assert every.sum() == inside.sum()


@pytest.mark.parametrize(
    ("edge", "tops"), [("drop", []), ("pad", [0]), ("shift", [0])], ids=["drop", "pad", "shift"]
)
def test_an_image_smaller_than_a_chip_is_left_out_or_reached_over(edge, tops):
    found = windows(grid, Place(20, 49, None, None), size=50, edge=edge)
    assert found == [(top, 0, 50, 50) for top in tops]


@pytest.mark.parametrize(
    ("edge", "tops"),
    [("drop", [0, 25, 50]), ("pad", [0, 25, 50, 75]), ("shift", [0, 25, 50, 60])],
)
def test_the_rules_at_the_edge_differ_in_the_last_window_alone(edge, tops):
    found = windows(grid, Place(110, 50, None, None), size=50, stride=25, edge=edge)
    assert [top for top, left, _, _ in found if left == 0] == tops


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
    found, rejects = methods.places(IMAGES, said, points.Settings(method="points"), "points.csv")
    assert found["row"].to_pylist() == [29]
    assert sorted((reject.reason, reject.detail) for reject in rejects) == [
        ("no_such_image", "points.csv:5: no image 'c.png' in the index"),
        ("points_outside", "points.csv:2: row 30 lies below a.png, which is 30 pixels high"),
        ("points_outside", "points.csv:3: column 40 lies right of a.png, which is 40 pixels wide"),
        ("points_outside", "points.csv:4: (-1, 0) is negative, outside b.png"),
    ]


@pytest.mark.parametrize(
    ("key", "written", "shown"),
    [
        ("Reef/IMG_1.JPG", "reef/img_1.jpg", "'Reef/IMG_1.JPG'"),
        ("e\u0301.png", "\u00e9.png", "'e\\u0301.png'"),
        ("a.png", "\ufeffa.png ", "'a.png'"),
        ("s/a.png", ".\\s\\a.png", "'s/a.png'"),
    ],
)
def test_a_key_that_differs_only_in_spelling_is_named_in_the_reject(key, written, shown):
    images = pa.table({"key": [key], "version": ["v"], "height": [30], "width": [40]})
    said = annotations([{"key": written, "row": 1, "col": 1}])
    found, (reject,) = methods.places(images, said, points.Settings(method="points"), "points.csv")
    assert found.num_rows == 0
    assert reject.reason == "no_such_image"
    assert reject.detail == (
        f"points.csv:2: no image {written!r} in the index, which has {shown}: the same but for "
        "case, space, slashes or the form of a letter"
    )


def test_a_plan_has_one_chip_a_place_and_its_id_names_the_window():
    said = annotations([{"key": "a.png", "row": 3, "col": 4}, {"key": "a.png", "row": 5, "col": 6}])
    params = points.Settings(method="points", size=8)
    places, _ = methods.places(IMAGES, said, params, "points.csv")
    made = methods.plan(places, params)
    assert made.schema.equals(schemas.CHIPS)
    assert made.select(["row", "col", "top", "left"]).to_pylist() == [
        {"row": 3, "col": 4, "top": -1, "left": 0},
        {"row": 5, "col": 6, "top": 1, "left": 2},
    ]
    larger = methods.plan(places, points.Settings(method="points", size=10))
    assert set(made["chip_id"].to_pylist()).isdisjoint(larger["chip_id"].to_pylist())


def test_a_plan_of_nothing_is_an_empty_table():
    params = whole.Settings(method="whole")
    assert methods.plan(schemas.PLACES.empty_table(), params).schema.equals(schemas.CHIPS)


def test_whole_images_cannot_use_annotated_points():
    params = whole.Settings(method="whole")
    message = (
        "chip.method: 'whole' cannot use annotations.format 'points', which speaks of points; "
        "set chip.method to points"
    )
    with pytest.raises(SettingError) as stop:
        methods.check_levels(params, AnnotationParams(format="points"), "point")
    assert str(stop.value) == message


@pytest.mark.parametrize(
    ("named", "key", "mask"),
    [
        ("{key}_mask.png", "a/b.c.tif", "a/b.c_mask.png"),
        ("{folder}/masks/{stem}.tif", "a/b/c.tif", "a/b/masks/c.tif"),
        ("{folder}/masks/{stem}.tif", "c.tif", "masks/c.tif"),
    ],
)
def test_a_mask_is_named_by_its_image(named, key, mask):
    params = grid.Settings(method="grid", nodata=named)
    assert methods.masks(params)(key) == mask


@pytest.mark.parametrize("nodata", [None, 0, -9999.0, "alpha"])
def test_nodata_by_value_or_alpha_names_no_masks(nodata):
    assert methods.masks(grid.Settings(method="grid", nodata=nodata)) is None


def test_nodata_that_is_no_value_alpha_or_mask_template_is_refused():
    with pytest.raises(ValueError, match=r"\{name\} is none of the fields key, folder, stem"):
        grid.Settings(method="grid", nodata="{name}.png")
    with pytest.raises(ValueError, match="has no field"):
        grid.Settings(method="grid", nodata="black")


@pytest.mark.parametrize(
    ("key", "known", "message"),
    [
        (
            "photo1.jpg",
            "2021/photo1.jpg",
            ", which has '2021/photo1.jpg': the same with '2021/' before it (annotations.prefix)",
        ),
        (
            "2021/photo1.jpg",
            "photo1.jpg",
            ", which has 'photo1.jpg': the same without '2021/' before it (annotations.prefix, "
            "bucket.url)",
        ),
        ("photo1.jpg", "2021/myphoto1.jpg", ""),
    ],
)
def test_a_key_that_differs_by_a_prefix_is_named(key, known, message):
    row = {"key": key, "row": 1, "col": 1, "label": "x", "line": "2"}
    annotations = pa.Table.from_pylist([row], schemas.ANNOTATIONS)
    image = {"key": known, "version": "v", "height": 9, "width": 9}
    images = pa.Table.from_pylist([image], schemas.IMAGES)
    _, _, (reject,) = methods.of_known_images(annotations, images, "points.csv")
    assert reject.detail == f"points.csv:2: no image {key!r} in the index{message}"
