"""COCO: boxes, outlines and masks, also as VIA, LVIS, pandas and CVAT write them."""

import json

import numpy as np
import pytest
from annotation_files import COCO, KEYS, changed, read, window
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from pipeline.annotations import coco
from pipeline.core.errors import InputError


def test_coco_boxes_outlines_and_masks():
    rows, rejects = read(coco, COCO, prefix="deep/")
    assert rejects == []
    box, outline, crowd = sorted(rows, key=lambda row: row["line"])
    assert (box["key"], box["label"], window(box)) == ("deep/a.jpg", "Copepod", (20, 10, 40, 30))
    assert (box["image_height"], box["image_width"]) == (100, 200)
    assert (outline["key"], outline["label"]) == ("deep/b.jpg", "Äste")
    assert window(outline) == (20, 10, 40, 50)
    assert [len(ring) for ring in outline["outline"]] == [6, 8 - 2]
    # Runs go down the columns: 203 pixels are two columns of 100 and 3 rows of the third.
    assert window(crowd) == (3, 2, 2, 2)
    assert np.unpackbits(np.frombuffer(crowd["pixels"], np.uint8), count=4).tolist() == [1] * 4
    assert [row["crowd"] for row in (box, outline, crowd)] == [False, False, True]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_coco_masks_are_what_pycocotools_reads(height, width, data):
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits, np.uint8).reshape(height, width)
    packed = coco_masks.encode(np.asfortranarray(mask))
    segmentation = {"size": [height, width], "counts": packed["counts"].decode()}
    rows, rejects = read(coco, changed(0, segmentation=segmentation), [(height, width)] * len(KEYS))
    of_mask = [row for row in rows if row["line"] == "annotations[0]"]
    if not mask.any():
        assert of_mask == []
        assert [reject for reject in rejects if "[0]" in reject[2]] == [
            ("a.jpg", "not_a_box", "test.file:annotations[0]: the mask is empty"),
        ]
        return
    (row,) = of_mask
    top, left, high, wide = window(row)
    unpacked = np.zeros_like(mask)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=high * wide)
    unpacked[top : top + high, left : left + wide] = bits.reshape(high, wide)
    assert np.array_equal(unpacked, mask)
    assert [left, top, wide, high] == coco_masks.toBbox(packed).tolist()


@pytest.mark.parametrize("nothing", [[], [[]], None])
def test_a_coco_annotation_without_an_outline_is_its_box(nothing):
    rows, rejects = read(coco, changed(0, segmentation=nothing))
    (box,) = (row for row in rows if row["line"] == "annotations[0]")
    assert (window(box), rejects) == ((20, 10, 40, 30), [])


@pytest.mark.parametrize("degrees", [0.0, "none", None, float("nan"), True])
def test_a_coco_box_without_a_valid_rotation_is_upright(degrees):
    rows, rejects = read(coco, changed(0, segmentation=[], attributes={"rotation": degrees}))
    (box,) = (row for row in rows if row["line"] == "annotations[0]")
    assert (window(box), rejects) == ((20, 10, 40, 30), [])


def test_coco_boxes_with_cvats_rotation_are_turned():
    """CVAT's COCO has the upright box, and the angle about its middle beside it, as in its XML."""
    turned = {"occluded": False, "rotation": 90.0}
    rows, rejects = read(coco, changed(0, segmentation=[], attributes=turned))
    (box,) = (row for row in rows if row["line"] == "annotations[0]")
    # 30 wide and 40 high about column 25 and row 40: 40 wide and 30 high.
    assert (window(box), rejects) == ((25, 5, 30, 40), [])


@pytest.mark.parametrize("segmentation", [[[12, 25, 18, 25]], [12, 25, 18, 25]])
def test_two_corners_are_not_an_outline_if_there_is_a_box(segmentation):
    rows, rejects = read(coco, changed(0, segmentation=segmentation))
    (box,) = (row for row in rows if row["line"] == "annotations[0]")
    assert (window(box), box["outline"], rejects) == ((20, 10, 40, 30), None, [])


def test_a_part_of_two_corners_is_ignored_among_other_parts():
    rows, rejects = read(
        coco, changed(0, segmentation=[[11, 22, 15, 22, 15, 30], [90, 90, 99, 99]])
    )
    (outlined,) = (row for row in rows if row["line"] == "annotations[0]")
    assert (window(outlined), rejects) == ((22, 11, 8, 4), [])


def test_coco_as_via_writes_it():
    """The image's id is a number there and a text in annotations; an outline has no list around."""
    via = {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": "crab", "supercategory": "type"}],
        "annotations": [
            {
                "id": 0,
                "image_id": "0",
                "category_id": 1,
                "segmentation": [10, 20, 40, 20, 40, 60],
                "area": 600,
                "bbox": [10, 20, 30, 40],
                "iscrowd": 0,
            }
        ],
    }
    (row,), rejects = read(coco, via)
    assert (row["key"], row["label"], window(row)) == ("a.jpg", "crab", (20, 10, 40, 30))
    assert (row["outline"], rejects) == ([[10, 20, 40, 20, 40, 60]], [])


def test_an_image_of_lvis_is_named_by_its_address():
    whole = json.loads(json.dumps(COCO))
    del whole["images"][0]["file_name"]
    whole["images"][0]["coco_url"] = "http://images.cocodataset.org/train2017/a.jpg"
    assert {row["key"] for row in read(coco, whole)[0]} == {"a.jpg", "b.jpg"}


def test_ids_that_pandas_has_made_floats_are_ids():
    rows, rejects = read(coco, changed(0, image_id=7.0, category_id=1.0))
    assert (len(rows), rejects) == (3, [])


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("images", {"id": 7, "file_name": "c.jpg", "width": 50, "height": 50}),
        ("images", {"id": "7", "file_name": "deep/a.jpg", "width": 200, "height": 100}),
        ("categories", {"id": 1, "name": "Krill"}),
    ],
)
def test_an_id_of_two_items_is_an_error(name, item):
    """Else objects of one merged file would be on an image, or have a label, of the other."""
    whole = json.loads(json.dumps(COCO))
    whole[name].append(item)
    with pytest.raises(InputError) as stop:
        read(coco, whole)
    assert str(stop.value) == (
        f"test.file:{name}[2]: the id {item['id']} is another's too; files that are merged "
        "need new ids"
    )
    whole[name][2] = whole[name][0]
    assert len(read(coco, whole)[0]) == 3


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"image_id": 8}, "no_such_image", "no image has its image_id, 8"),
        ({"image_id": [7]}, "no_such_image", "no image has its image_id, None"),
        ({"category_id": 2}, "unreadable_row", "no category has its category_id, 2"),
        ({"bbox": None}, "not_a_box", "has no box and no segmentation"),
        ({"bbox": [1, 2, 0, 4]}, "not_a_box", "the box from 1, 2 to 1, 6 is empty"),
        (
            {"bbox": [1, 2, "x", 4]},
            "not_a_box",
            "side of the box 'x' is not a number of pixels",
        ),
        (
            {"bbox": [1, 2, float("nan"), 4]},
            "not_a_box",
            "side of the box nan is not a number of pixels",
        ),
        (
            {"segmentation": [[1, 2, 3, 4]], "bbox": []},
            "not_a_box",
            "an outline needs three corners or more",
        ),
        (
            {"segmentation": [[1, 2, 3, 4, 5, 6], 7]},
            "not_a_box",
            "its segmentation is not a list of outlines",
        ),
        (
            {"segmentation": {"size": [100, 200], "counts": [5, 5]}},
            "not_a_box",
            "the runs of its mask do not add up to 20,000 pixels",
        ),
        (
            {"segmentation": {"size": "x", "counts": [5, 5]}},
            "not_a_box",
            "the size of its mask is 'x'",
        ),
    ],
)
def test_one_bad_coco_annotation_is_a_reject_with_its_place(values, reason, detail):
    rows, rejects = read(coco, changed(0, **values))
    assert len(rows) == 2
    assert [(why, what) for _, why, what in rejects] == [
        (reason, f"test.file:annotations[0]: {detail}")
    ]
