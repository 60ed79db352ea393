"""Labels: a chip's group, by annotation, by image, or by a property of the image."""

from datetime import datetime

import pyarrow as pa
import pytest

from pipeline.annotations import _merge
from pipeline.chip import labels, methods
from pipeline.chip.methods import points, whole
from pipeline.config.sections import SplitParams
from pipeline.core import schemas

KNOWN = {
    "a/1.jpg": (datetime(2024, 5, 1, 23, 59), 54.0049, -2.801, "reef"),
    "a/2.jpg": (datetime(2024, 5, 2, 0, 0), 54.0, -2.79, None),
    "b/3.jpg": (None, None, None, "reef"),
    "b/4.jpg": (datetime(2024, 5, 1, 0, 0), 0.29, 0.005, "bank"),
}


@pytest.fixture
def images():
    rows = [
        {"key": key, "captured_at": at, "latitude": north, "longitude": east, "site": site}
        | {"version": "v", "width": 9, "height": 9}
        for key, (at, north, east, site) in KNOWN.items()
    ]
    return pa.Table.from_pylist(rows, pa.schema([*schemas.IMAGES, ("site", pa.string())]))


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("group", ["a/1.jpg", "a/2.jpg", "said", "b/4.jpg"]),
        ("image", ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"]),
        ("folder", ["a", "a", "b", "b"]),
        ("day", ["2024-05-01", "2024-05-02", "b/3.jpg", "2024-05-01"]),
        ("place", ["54.00 -2.81", "54.00 -2.79", "b/3.jpg", "0.29 0.00"]),
        ("site", ["reef", "a/2.jpg", "reef", "bank"]),
    ],
)
def test_chips_are_grouped_by_a_property_of_their_image(images, by, groups):
    """An image without the property is a group by itself."""
    params = whole.Settings(method="whole")
    said = pa.Table.from_pylist(
        [{"key": "b/3.jpg", "label": "x", "group": "said", "line": "2"}], schemas.ANNOTATIONS
    )
    places, _ = methods.places(images, said, params, "")
    made = labels.make(methods.plan(places, params), images, said, "image", SplitParams(by=by))
    assert made["group"].to_pylist() == groups
    assert made["label"].to_pylist() == [None, None, "x", None]


def annotated(*rows):
    rows = [{"label": "x", "line": str(at), **row} for at, row in enumerate(rows, start=2)]
    return pa.Table.from_pylist(rows, schemas.ANNOTATIONS)


def test_a_blank_group_is_that_of_the_image():
    """Else windows a pixel apart would be in different splits."""
    known = annotated(
        {"key": "a", "row": 5, "col": 5, "group": "north"},
        {"key": "a", "row": 5, "col": 6},
        {"key": "a", "row": 5, "col": 7, "label": None},
        {"key": "b", "row": 5, "col": 5},
    )
    filled, rejects = labels.fill_groups(known, "points.csv")
    assert filled["group"].to_pylist() == ["north", "north", "north", None]
    assert not rejects
    rows = [{"key": key, "version": "v", "height": 9, "width": 9} for key in "ab"]
    images = pa.Table.from_pylist(rows, schemas.IMAGES)
    params = points.Settings(method="points", size=4)
    background = pa.Table.from_pylist([{"key": "a", "row": 1, "col": 1}], schemas.ANNOTATIONS)
    places, _ = methods.places(images, pa.concat_tables([filled, background]), params, "")
    made = labels.make(methods.plan(places, params), images, filled, "point", SplitParams())
    assert made["group"].to_pylist() == ["north"] * 4 + ["b"]


def test_a_blank_group_in_an_image_of_two_groups_is_a_reject():
    known = annotated(
        {"key": "a", "row": 5, "col": 5, "group": "north"},
        {"key": "a", "row": 5, "col": 6},
        {"key": "a", "row": 5, "col": 7, "label": None},
        {"key": "a", "row": 9, "col": 9, "group": "south"},
    )
    kept, (reject,) = labels.fill_groups(known, "points.csv")
    assert kept["line"].to_pylist() == ["2", "4", "5"]
    assert (reject.key, reject.row, reject.col, reject.reason) == ("a", 5, 6, "no_group")
    assert reject.detail == (
        "points.csv:3: no group, and the annotations of a name 2, such as 'north' and 'south'; "
        "name the group of this one"
    )


def test_a_repeated_annotation_passes_its_group_on():
    rows = [_merge.Annotation("a", label, line, group=group) for label, line, group in REPEATED]
    table, rejects = _merge.merged(rows, "images.csv")
    assert table.select(["label", "group"]).to_pylist() == [{"label": "x", "group": "north"}]
    assert [reject.reason for reject in rejects] == ["said_again"]


REPEATED = [("x", 2, None), (None, 3, "north")]
