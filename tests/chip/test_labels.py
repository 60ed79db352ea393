"""Labels: a chip's group, by annotation, by image, or by a property of the image."""

from datetime import datetime

import pyarrow as pa
import pytest

from pipeline.chip import labels, methods
from pipeline.chip.methods import whole
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
