"""CVAT's XML: boxes, outlines, masks, points and tags."""

import time

import numpy as np
import pytest
from annotation_files import read, window

from pipeline.annotations import cvat
from pipeline.core.errors import InputError

# The example of CVAT's documentation of its XML 1.1, and what CVAT has added to it since.
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>car</name></label></labels></task></meta>
  <image id="0" name="a.jpg" width="200" height="100">
    <box label="plate" xtl="10.5" ytl="20.25" xbr="30.0" ybr="40.75" occluded="0" z_order="4">
      <attribute name="seen">yes</attribute>
    </box>
    <polygon label="car" points="10.00,10.00;20.00,10.00;20.00,30.00" occluded="0"></polygon>
    <polyline label="line" points="1,2;3,4" occluded="0"></polyline>
    <points label="wheel" points="5.99,6.00;7.00,8.50" occluded="0" z_order="5"></points>
    <tag label="good_frame" source="manual"></tag>
    <skeleton label="body"><points label="1" points="9,9" outside="0"></points></skeleton>
    <mask label="sponge" rle="1, 2, 1, 2" left="4" top="3" width="3" height="2"></mask>
    <ellipse label="disc" cx="50" cy="50" rx="20" ry="10"></ellipse>
    <box label="turned" xtl="40" ytl="40" xbr="60" ybr="50" rotation="90.00"></box>
    <box label="torn" xtl="40" ytl="x" xbr="60" ybr="50"></box>
  </image>
  <image id="1" name="none.jpg" width="1" height="1"></image>
</annotations>
"""


def test_cvats_shapes():
    rows, rejects = read(cvat, CVAT)
    by_label = {row["label"]: row for row in rows}
    assert window(by_label["plate"]) == (20, 10, 21, 20)
    assert window(by_label["car"]) == (10, 10, 20, 10)
    assert by_label["car"]["outline"] == [[10, 10, 20, 10, 20, 30]]
    assert [(row["row"], row["col"]) for row in rows if row["label"] == "wheel"] == [(6, 5), (8, 7)]
    tag = by_label["good_frame"]
    assert (tag["row"], tag["top"], tag["key"]) == (None, None, "a.jpg")
    # One row outside, two in, one out, two in: rows 011 and 011 of three pixels each.
    assert window(by_label["sponge"]) == (3, 5, 2, 2)
    assert window(by_label["disc"]) == (40, 30, 20, 40)
    assert window(by_label["turned"]) == (35, 45, 20, 10)
    assert {row["image_width"] for row in rows} == {200}
    assert rejects == [
        ("a.jpg", "not_a_box", "test.file:10: a polyline has no pixels"),
        ("a.jpg", "not_a_box", "test.file:13: a skeleton has no pixels"),
        ("a.jpg", "not_a_box", "test.file:17: ytl 'x' is not a number of pixels"),
    ]
    assert "1" not in by_label, "the points of a skeleton are not annotations"
    assert [row["line"] for row in rows if row["label"] == "plate"] == ["6"]


@pytest.mark.parametrize(
    ("rle", "expected"),
    [
        ("1,2,4,2,3", [(0, 1), (0, 2), (1, 3), (2, 0)]),
        ("1,2,4,2", [(0, 1), (0, 2), (1, 3), (2, 0)]),
        ("1, 2, 4, 5", [(0, 1), (0, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]),
    ],
)
def test_pixels_after_the_last_run_of_a_cvat_mask_are_outside(rle, expected):
    """Masks that other programs have put into CVAT end with the last pixel inside."""
    mask = f'<mask label="x" rle="{rle}" left="10" top="20" width="4" height="3"/>'
    (row,), rejects = read(cvat, f'<annotations><image name="a.jpg">{mask}</image></annotations>')
    top, left, height, width = window(row)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=height * width)
    pixels = np.argwhere(bits.reshape(height, width)) + np.array([top - 20, left - 10])
    assert (list(map(tuple, pixels.tolist())), rejects) == (expected, [])


@pytest.mark.parametrize("rle", ["1,2,4", "1,2,4,2,4", "1,2,4,6"])
def test_runs_of_a_cvat_mask_that_do_not_fit_are_a_reject(rle):
    mask = f'<mask label="x" rle="{rle}" left="10" top="20" width="4" height="3"/>'
    rows, rejects = read(cvat, f'<annotations><image name="a.jpg">{mask}</image></annotations>')
    what = "test.file:1: the runs of its mask do not add up to 12 pixels"
    assert (rows, rejects) == ([], [("a.jpg", "not_a_box", what)])


def test_elements_that_are_nested_too_deep_are_an_error_at_once():
    deep = "<annotations>" + "<tag>" * 80_000 + "</tag>" * 80_000 + "</annotations>"
    begun = time.monotonic()
    with pytest.raises(InputError) as stop:
        read(cvat, deep)
    assert str(stop.value) == (
        "test.file:1: elements are nested more than 32 deep; this is no file of CVAT"
    )
    assert time.monotonic() - begun < 1
