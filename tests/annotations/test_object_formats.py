"""Formats with points, boxes, outlines and labels of whole images in one file."""

import json
import unicodedata
from contextlib import suppress
from itertools import cycle
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from test_labelstudio_brush import packed_by_runs

from pipeline.annotations import AnnotationSource, boxes, coco, cvat, labelstudio, points, squidle
from pipeline.annotations._objects import ImageNames
from pipeline.core.errors import InputError

KEYS = ["a.jpg", "deep/b.jpg", "c.jpg", "deep/a.jpg"]
SIZES = [(100, 200), (300, 400), (50, 50), (100, 200)]
WINDOW = ("top", "left", "height", "width")


def read(part, data, sizes=SIZES, **more):
    text = data if isinstance(data, bytes | str) else json.dumps(data)
    name = part.__name__.rpartition(".")[2]
    params = part.Settings(format=name, path=f"x/{name}.file", **more)
    raw = text.encode() if isinstance(text, str) else text
    table, rejects = part.read(AnnotationSource("test.file", raw, KEYS, sizes), params)
    return table.to_pylist(), [(reject.key, reject.reason, reject.detail) for reject in rejects]


def window(row):
    return tuple(row[side] for side in WINDOW)


# What COCO's own documentation shows of each kind of annotation, on images of ours.
COCO = {
    "info": {"year": 2024},
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100},
        {"id": 9, "file_name": "b.jpg", "width": 400, "height": 300, "license": 3},
    ],
    "categories": [
        {"id": 1, "name": "Copepod", "supercategory": "plankton"},
        {"id": 90, "name": "Äste "},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 40], "iscrowd": 0},
        {
            "id": 2,
            "image_id": 9,
            "category_id": 90,
            "bbox": [0, 0, 1, 1],
            "segmentation": [[10.5, 20.5, 14.5, 20.5, 14.5, 30.5], [50, 50, 60, 50, 60, 60]],
            "area": 70,
            "iscrowd": 0,
        },
        {
            "id": 3,
            "image_id": 7,
            "category_id": 1,
            "segmentation": {"size": [100, 200], "counts": [203, 2, 98, 2, 19695]},
            "iscrowd": 1,
        },
    ],
}


def changed(place, **values):
    whole = json.loads(json.dumps(COCO))
    whole["annotations"][place] |= values
    return whole


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
    mine = [row for row in rows if row["line"] == "annotations[0]"]
    if not mask.any():
        assert mine == []
        assert [reject for reject in rejects if "[0]" in reject[2]] == [
            ("a.jpg", "not_a_box", "test.file:annotations[0]: the mask is empty"),
        ]
        return
    (row,) = mine
    top, left, high, wide = window(row)
    found = np.zeros_like(mask)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=high * wide)
    found[top : top + high, left : left + wide] = bits.reshape(high, wide)
    assert np.array_equal(found, mask)
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


@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        (coco, b"[", "test.file: not JSON: "),
        (coco, b"[]", "test.file: has no list 'images'; a COCO file has images, annotations and"),
        (labelstudio, b"{}", "test.file: is not a list of tasks; export JSON, not JSON-MIN"),
        (
            labelstudio,
            b'[{"image": "/data/a.jpg", "id": 1, "choice": "cat", "annotator": 1}]',
            "test.file: is not a list of tasks; export JSON, not JSON-MIN",
        ),
        (
            labelstudio,
            b"PK\x03\x04...",
            "test.file: is an Excel workbook or another zip file, not text; unpack it and name "
            "the JSON file in it",
        ),
        (
            cvat,
            b"PK\x03\x04...",
            "test.file: is an Excel workbook or another zip file, not text; unpack it and name "
            "its annotations.xml",
        ),
        (labelstudio, b"\xff[]", "test.file: not JSON: 'utf-8' codec can't decode byte 0xff"),
        (labelstudio, b"[" * 100_000, "test.file: not JSON: "),
        (cvat, b"<annotations>", "test.file: not XML: no element found"),
        (cvat, b"<coco/>", "test.file: its root is 'coco'; CVAT's root is 'annotations'"),
        (
            cvat,
            b'<annotations>\n<track id="0"/></annotations>',
            "test.file:2: has tracks; export the task as 'CVAT for images 1.1'",
        ),
        (
            cvat,
            b'<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations/>',
            "test.file: declares a document type, which CVAT's files do not",
        ),
        (
            boxes,
            b"image,label,left,top\na.jpg,x,1,2\n",
            "test.file:1: no columns for width and height, or right and bottom",
        ),
        (
            squidle,
            b"point.x,point.y,point.media.key\n",
            "test.file:1: no column for label among point.x, point.y, point.media.key; "
            "it is called label.name in this format",
        ),
        (
            squidle,
            b'[{"point": {"x": 0.5}}]',
            "test.file:1: no column for image, y, label among point.x; "
            "it is called point.media.key or media.key or point.media.path_best or "
            "media.path_best in this format",
        ),
        (squidle, b'{"message": "no"}', "test.file: is not a list of annotations, and has none in"),
    ],
)
def test_the_error_for_a_file_of_another_kind_names_the_kind(part, data, message):
    with pytest.raises(InputError) as stop:
        read(part, data)
    assert str(stop.value).startswith(message)


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
    found = {row["label"]: row for row in rows}
    assert window(found["plate"]) == (20, 10, 21, 20)
    assert window(found["car"]) == (10, 10, 20, 10)
    assert found["car"]["outline"] == [[10, 10, 20, 10, 20, 30]]
    assert [(row["row"], row["col"]) for row in rows if row["label"] == "wheel"] == [(6, 5), (8, 7)]
    tag = found["good_frame"]
    assert (tag["row"], tag["top"], tag["key"]) == (None, None, "a.jpg")
    # One row outside, two in, one out, two in: rows 011 and 011 of three pixels each.
    assert window(found["sponge"]) == (3, 5, 2, 2)
    assert window(found["disc"]) == (40, 30, 20, 40)
    assert window(found["turned"]) == (35, 45, 20, 10)
    assert {row["image_width"] for row in rows} == {200}
    assert rejects == [
        ("a.jpg", "not_a_box", "test.file:10: a polyline has no pixels"),
        ("a.jpg", "not_a_box", "test.file:13: a skeleton has no pixels"),
        ("a.jpg", "not_a_box", "test.file:17: ytl 'x' is not a number of pixels"),
    ]
    assert "1" not in found, "a skeleton's points are no points by themselves"
    assert [row["line"] for row in rows if row["label"] == "plate"] == ["6"]


@pytest.mark.parametrize(
    ("rle", "found"),
    [
        ("1,2,4,2,3", [(0, 1), (0, 2), (1, 3), (2, 0)]),
        ("1,2,4,2", [(0, 1), (0, 2), (1, 3), (2, 0)]),
        ("1, 2, 4, 5", [(0, 1), (0, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]),
    ],
)
def test_pixels_after_the_last_run_of_a_cvat_mask_are_outside(rle, found):
    """Masks that other programs have put into CVAT end with the last pixel inside."""
    mask = f'<mask label="x" rle="{rle}" left="10" top="20" width="4" height="3"/>'
    (row,), rejects = read(cvat, f'<annotations><image name="a.jpg">{mask}</image></annotations>')
    top, left, height, width = window(row)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=height * width)
    pixels = np.argwhere(bits.reshape(height, width)) + np.array([top - 20, left - 10])
    assert (list(map(tuple, pixels.tolist())), rejects) == (found, [])


@pytest.mark.parametrize("rle", ["1,2,4", "1,2,4,2,4", "1,2,4,6"])
def test_runs_of_a_cvat_mask_that_do_not_fit_are_a_reject(rle):
    mask = f'<mask label="x" rle="{rle}" left="10" top="20" width="4" height="3"/>'
    rows, rejects = read(cvat, f'<annotations><image name="a.jpg">{mask}</image></annotations>')
    what = "test.file:1: the runs of its mask do not add up to 12 pixels"
    assert (rows, rejects) == ([], [("a.jpg", "not_a_box", what)])


def labelled(kind, labels, where, **more):
    return {
        "id": "Dx_aB91ISN",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**where, kind: labels},
        **more,
    }


PICTURE = np.zeros((100, 200, 4), int)
PICTURE[3, 5:8], PICTURE[4, 6:9] = 255, 255
PAINTED = packed_by_runs(PICTURE.ravel().tolist(), [4 * 10**4] * 2, 8, [3, 4, 8, 16])


def task(*results, image="s3://bucket/reef/a.jpg", **more):
    annotation = {
        "id": 1001,
        "was_cancelled": False,
        "ground_truth": False,
        "result": list(results),
    }
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [annotation],
        "predictions": [],
        **more,
    }


BOX = {"x": 10, "y": 20, "width": 5, "height": 10, "rotation": 0}
"""Percent of 200 × 100: rows 20 to 30, columns 20 to 30."""


def test_label_studios_shapes_are_percent_of_the_image():
    rows, rejects = read(
        labelstudio,
        [
            task(
                labelled("rectanglelabels", ["fish"], BOX),
                labelled("rectanglelabels", ["turned"], BOX | {"rotation": 90}),
                labelled("polygonlabels", ["coral"], {"points": [[0, 0], [50, 0], [50, 100]]}),
                labelled(
                    "ellipselabels", ["disc"], {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10}
                ),
                labelled("keypointlabels", ["shell"], {"x": 50.25, "y": 99.9, "width": 0.5}),
                labelled("choices", ["blurred"], {}),
                labelled("choices", ["per region"], BOX),
                labelled("rectangle", [], BOX) | {"value": BOX},
                labelled("labels", ["by a Labels tag"], BOX),
                {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
                labelled("taxonomy", ["sand"], {}),
                labelled("brushlabels", ["sand"], {"format": "rle", "rle": [1]}),
                labelled("brushlabels", ["painted"], {"format": "rle", "rle": PAINTED}),
                {"type": "rating", "value": {"rating": 3}, "from_name": "r", "to_name": "image"},
            )
        ],
    )
    found = {row["label"]: row for row in rows}
    for label in ("fish", "per region", "by a Labels tag"):
        assert window(found[label]) == (20, 20, 10, 10)
    # Turned by a quarter about its top left corner, a box lies to the left of it.
    assert window(found["turned"]) == (20, 10, 10, 10)
    assert window(found["coral"]) == (0, 0, 100, 100)
    assert window(found["disc"]) == (40, 80, 20, 40)
    assert (found["shell"]["row"], found["shell"]["col"]) == (99, 100)
    assert (found["blurred"]["row"], found["blurred"]["top"]) == (None, None)
    assert window(found["painted"]) == (3, 5, 2, 4)
    assert found["painted"]["pixels"] == np.packbits([1, 1, 1, 0, 0, 1, 1, 1]).tobytes()
    at = "test.file:[0].annotations[0].result"
    assert rejects == [
        ("a.jpg", "not_a_box", f"{at}[10]: taxonomy are not read"),
        ("a.jpg", "not_a_box", f"{at}[11]: its brush ends early"),
    ]


@pytest.mark.parametrize(
    ("image", "reason"), [("deep/b.jpg", "other_size"), ("gone.jpg", "no_such_image")]
)
def test_a_brush_is_unpacked_only_if_it_fits_its_image(image, reason):
    """Or a file of a few bytes could claim any memory."""
    painted = labelled("brushlabels", ["painted"], {"format": "rle", "rle": PAINTED})
    rows, rejects = read(labelstudio, [task(painted, image=image)])
    assert (rows, [why for _, why, _ in rejects]) == ([], [reason])


def test_only_the_labels_of_the_named_control_are_read():
    """A box of a kind, and a choice for it by another control: each may be the class."""
    result = task(
        labelled("rectanglelabels", ["parasite"], BOX, from_name="kind"),
        labelled("choices", ["uncertain"], BOX, from_name="sure"),
    )
    for control, labels in [(None, ["parasite", "uncertain"]), ("kind", ["parasite"])]:
        rows, rejects = read(labelstudio, [result], label=control)
        assert ([row["label"] for row in rows], rejects) == (labels, [])
    (row,) = read(labelstudio, [result], label="sure")[0]
    assert (row["label"], window(row)) == ("uncertain", (20, 20, 10, 10))
    assert row["line"] == "[0].annotations[0].result[1]"
    with pytest.raises(InputError) as stop:
        read(labelstudio, [result], label="kinds")
    assert str(stop.value) == (
        "test.file: no result is of the control 'kinds', which annotations.label names; there is "
        "kind, sure"
    )
    assert read(labelstudio, [], label="kinds") == ([], [])
    odd = task(labelled("choices", ["odd"], BOX, from_name=["kind"]), made_by="nobody")
    rows, rejects = read(labelstudio, [result, odd], label="kind")
    assert ([row["label"] for row in rows], rejects) == (["parasite"], [])
    assert len(read(labelstudio, [odd])[0]) == 1


def test_cancelled_annotations_and_predictions_are_not_read_and_ground_truth_is_preferred():
    cancelled = task(labelled("choices", ["skipped"], {}))
    cancelled["annotations"][0]["was_cancelled"] = True
    guessed = task(predictions=[{"result": [labelled("choices", ["guess"], {})]}], annotations=[])
    both = task(labelled("choices", ["first"], {}))
    both["annotations"].append(
        {"ground_truth": True, "result": [labelled("choices", ["second"], {})]}
    )
    tasks = [cancelled, guessed, both]
    assert [row["label"] for row in read(labelstudio, tasks)[0]] == ["second"]
    kept = read(labelstudio, tasks, keep_unconfirmed=True)[0]
    assert sorted(row["label"] for row in kept) == ["guess", "second"]


def test_a_region_without_a_size_is_percent_of_the_image_in_the_index():
    """Old exports, and predictions that models have written, do not state it."""
    bare = {"type": "rectanglelabels", "value": {**BOX, "rectanglelabels": ["fish"]}}
    rows, rejects = read(labelstudio, [task(bare), task(bare, image="s3://b/none.jpg")])
    assert [window(row) for row in rows] == [(20, 20, 10, 10)]
    assert rejects == [
        (
            "s3://b/none.jpg",
            "no_such_image",
            "test.file:[1].annotations[0].result[0]: states no size, and its image is not in the "
            "index",
        )
    ]
    half = task({**bare, "original_width": 200})
    assert read(labelstudio, [half])[1][0][1:] == (
        "not_a_pixel",
        "test.file:[0].annotations[0].result[0]: original_height 'None' is not a whole number",
    )


def test_results_of_other_images_of_a_task_are_rejects():
    """Pairs before and after: results say of which they are by a name of the interface."""
    pair = task(
        labelled("rectanglelabels", ["fish"], BOX, to_name="before"),
        labelled("rectanglelabels", ["crab"], BOX, to_name="after"),
        {"type": "choices", "value": {"choices": ["dark"]}, "to_name": "after"},
        {"type": "choices", "value": {"choices": ["seen"]}, "to_name": "note"},
    )
    pair["data"] = {"before": "s3://bucket/reef/a.jpg", "after": "s3://bucket/reef/c.jpg"}
    rows, rejects = read(labelstudio, [pair], image="before")
    assert sorted((row["key"], row["label"]) for row in rows) == [
        ("a.jpg", "fish"),
        ("a.jpg", "seen"),
    ]
    what = "is of the image 'after', and annotations.image is 'before'"
    assert rejects == [
        ("a.jpg", "not_a_box", f"test.file:[0].annotations[0].result[{place}]: {what}")
        for place in (1, 2)
    ]


def test_one_image_may_have_any_name_in_the_interface():
    results = [labelled("rectanglelabels", ["fish"], BOX, to_name="img")]
    results.append({"type": "choices", "value": {"choices": "blurred"}, "to_name": "img"})
    rows, rejects = read(labelstudio, [task(*results)])
    assert ([row["label"] for row in rows], rejects) == (["fish", "blurred"], [])


def test_tasks_of_exported_chips_label_the_chips_centre():
    data = {"image": "s3://b/chips/0001.png", "chip_id": "00", "chip_key": "deep/b.jpg"}
    own = task(labelled("choices", ["weed"], {}), labelled("rectanglelabels", ["x"], BOX))
    rows, rejects = read(labelstudio, [own | {"data": data | {"chip_row": 31, "chip_col": 7}}])
    assert [(row["key"], row["row"], row["col"], row["label"]) for row in rows] == [
        ("deep/b.jpg", 31, 7, "weed")
    ]
    place = "test.file:[0].annotations[0].result[1]"
    assert rejects[0][2] == f"{place}: rectanglelabels are not read on the image of a chip"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_are_read_in_every_encoding_that_they_may_have(encoding):
    tasks = json.dumps([task(labelled("choices", ["Äste"], {}))], ensure_ascii=False)
    named = "utf-16" if encoding == "utf-16" else "utf-8"
    tag = '<image name="a.jpg"><tag label="Äste"/></image>'
    xml = f'<?xml version="1.0" encoding="{named}"?><annotations>{tag}</annotations>'
    for part, text in ((labelstudio, tasks), (cvat, xml)):
        assert [row["label"] for row in read(part, text.encode(encoding))[0]] == ["Äste"]


def test_a_label_that_contains_the_separator_is_rejected():
    tasks = [task(labelled("choices", ["a;b", "c"], {}))]
    rows, rejects = read(labelstudio, tasks, label_separator=";")
    assert [row["label"] for row in rows] == []
    assert rejects[0][1:] == (
        "unreadable_row",
        (
            "test.file:[0].annotations[0].result[0]: the label 'a;b' contains ';'; "
            "set another label_separator"
        ),
    )


def test_images_are_matched_by_address():
    names = ImageNames(AnnotationSource("", b"", ["site/1.jpg", "1.jpg", "p/2 3.jpg"]), "")
    assert names.key("site/1.jpg") == "site/1.jpg"
    assert names.key("s3://bucket/reef/site/1.jpg") == "site/1.jpg"
    assert names.key("https://x.org/other/1.jpg?signature=/a/site/1.jpg") == "1.jpg"
    assert names.key("/data/local-files/?d=reef/p/2%203.jpg") == "p/2 3.jpg"
    assert names.key("/data/upload/4/0123abcd-1.jpg") == "1.jpg"
    assert names.key("nowhere/1.jpg") == "nowhere/1.jpg"
    assert ImageNames(AnnotationSource("", b"", ["p/2.jpg"]), "p/").key("2.jpg") == "p/2.jpg"


def test_images_are_matched_by_paths_of_windows_and_other_machines():
    names = ImageNames(AnnotationSource("", b"", ["site/1.jpg", "1.jpg", "odd\\1.jpg"]), "")
    assert names.key("site\\1.jpg") == "site/1.jpg"
    assert names.key("C:\\reef\\site\\1.jpg") == "site/1.jpg"
    assert names.key("/data/local-files/?d=reef%5Csite%5C1.jpg") == "site/1.jpg"
    assert names.key("../../reef/site/1.jpg") == "site/1.jpg"
    assert names.key("./1.jpg") == "1.jpg"
    assert names.key("odd\\1.jpg") == "odd\\1.jpg", "a key may contain a backslash"
    assert names.key("other\\1.jpg") == "other/1.jpg", "a folder of the bucket is no other's"
    assert ImageNames(AnnotationSource("", b"", ["p/a/2.jpg"]), "p/").key("a\\2.jpg") == "p/a/2.jpg"


def test_a_name_without_an_extension_is_the_only_image_of_that_name():
    """CVAT calls a video's frames so, and Squidle+ its media."""
    keys = ["v/frame_000001.PNG", "2.jpg", "2.png", "3.jpg.png", "4_thumbnail.png"]
    names = ImageNames(AnnotationSource("", b"", keys), "v/")
    assert names.key("frame_000001") == "v/frame_000001.PNG"
    assert names.key("frame_000002") == "v/frame_000002"
    nameless = ImageNames(AnnotationSource("", b"", ["3.jpg"]), "3")
    assert nameless.key("") == "3", "no name means no image"
    names = ImageNames(AnnotationSource("", b"", keys), "")
    for name in ("2", "3.jpg", "3", "4", "frame_000001", ""):
        assert names.key(name) == name


def test_the_signature_of_an_unknown_address_is_not_kept():
    names = ImageNames(AnnotationSource("", b"", ["1.jpg"]), "")
    for name in ("https://me:pw@x.org/2.jpg?X-Amz-Signature=pw", "s3://b/2.jpg?sig=pw"):
        assert "pw" not in names.key(name)
        assert names.key(name).endswith("/2.jpg")
    assert names.key("https://[x/1.jpg") == "https://…"
    assert names.key("a\ud800.jpg") == "'a\\ud800.jpg'"


HOSTILE = [None, -1, 1e308, 10**400, "\ud800", [2**63], {"a": 1}]
"""Values in files that a program has mangled, or an attacker has written."""


def places_in(value, at=()):
    """Yield the path to each value in *value*."""
    yield at
    if isinstance(value, dict | list):
        named = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in named:
            yield from places_in(item, (*at, name))


def with_value(whole, at, value):
    """Return *whole* with another value at the path *at*."""
    if not at:
        return value
    kind = dict(whole) if isinstance(whole, dict) else list(whole)
    kind[at[0]] = with_value(kind[at[0]], at[1:], value)
    return kind


TASKS = [
    task(
        labelled("rectanglelabels", ["fish"], BOX),
        labelled("polygonlabels", ["coral"], {"points": [[0, 0], [50, 0], [50, 100]]}),
        labelled("ellipselabels", ["disc"], {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10}),
        labelled("choices", ["blurred"], {}),
    )
]


@pytest.mark.parametrize(("part", "whole"), [(coco, COCO), (labelstudio, TASKS)])
def test_a_mangled_file_gives_rejects_or_an_input_error(part, whole):
    """Every value in turn is a hostile one."""
    for at, value in zip(places_in(whole), cycle(HOSTILE), strict=False):
        with suppress(InputError):
            read(part, json.dumps(with_value(whole, at, value)), label_separator=";")


def test_a_mask_larger_than_its_image_is_not_unpacked():
    segmentation = {"size": [60_000, 60_000], "counts": [60_000**2]}
    rejects = read(coco, changed(0, segmentation=segmentation))[1]
    assert rejects[0][1] == "other_size"
    assert rejects[0][2].startswith("test.file:annotations[0]: its mask has 60000 × 60000 pixels, ")
    mask = '<mask label="x" rle="3600000000" left="0" top="0" width="60000" height="60000"/>'
    image = f'<annotations><image name="a.jpg">{mask}</image></annotations>'
    assert read(cvat, image)[1][0][1] == "other_size"


BOXES = """image,label,xmin,ymin,xmax,ymax,group
a.jpg,fish,10,20,30,40,s1
a.jpg,crab,10.2,20.8,30.1,40,s1
a.jpg,none,10,20,10,40,
"""


def test_boxes_from_a_table():
    rows, rejects = read(boxes, BOXES)
    assert [(row["label"], window(row), row["group"]) for row in rows] == [
        ("fish", (20, 10, 20, 20), "s1"),
        ("crab", (20, 10, 20, 21), "s1"),
    ]
    assert rejects == [
        ("a.jpg", "not_a_box", "test.file:4: the box from 10, 20 to 10, 40 is empty")
    ]
    corners = "image_name,x_min,y_min,x_max,y_max,class_name\na.jpg,10,20,30,40,metal\n"
    (row,), rejects = read(boxes, corners)
    assert (row["label"], window(row), rejects) == ("metal", (20, 10, 20, 20), [])
    sized = "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,200,100,crab,10,20,30,40\n"
    (row,), rejects = read(boxes, sized)
    assert (row["label"], window(row), rejects) == ("crab", (20, 10, 20, 20), [])
    named = boxes.Columns(left="L", top="T", width="B", height="H")
    text = "image;label;L;T;B;H\na.jpg;fish;10;20;20;20\n"
    assert window(read(boxes, text, columns=named)[0][0]) == (20, 10, 20, 20)


# The columns of Squidle+'s export, `point.x` and `point.y` as shares, a polygon from the point.
SQUIDLE = """label.name,label.lineage_names,needs_review,point.media.key,point.media.path_best,\
point.x,point.y,point.polygon,point.media.deployment.key
Sand,Physical > Sand,False,a.jpg,https://s3/x/deep/b.jpg,0.5,0.25,[],d1
Kelp,Algae > Kelp,False,A1,https://s3/x/deep/b.jpg,1.0,0.9999,,d1
Urchin,Animal > Urchin,False,a.jpg,,0.5,0.5,"[[-0.1,-0.2],[-0.1,0.2],[0.1,0.2],[0.1,-0.2]]",d1
Clear,Clear,False,a.jpg,,nan,nan,nan,d1
Guess,Guess,True,a.jpg,,0.5,0.5,,d1
Gone,Gone,False,z.jpg,,0.5,0.5,,d1
Wrong,Wrong,False,a.jpg,,1.5,0.5,,d1
"""


def test_squidles_points_are_shares_of_the_image():
    rows, rejects = read(squidle, SQUIDLE, group="point.media.deployment.key")
    found = {row["label"]: row for row in rows}
    assert (found["Sand"]["row"], found["Sand"]["col"]) == (25, 100)
    assert found["Kelp"]["key"] == "deep/b.jpg"
    assert (found["Kelp"]["row"], found["Kelp"]["col"]) == (299, 399)
    assert window(found["Urchin"]) == (30, 80, 40, 40)
    assert found["Clear"]["row"] is None
    assert {row["group"] for row in rows} == {"d1"}
    assert [why for _, why, _ in rejects] == ["unconfirmed", "no_such_image", "points_outside"]
    assert rejects[2][2] == "test.file:8: 1.5, 0.5 is outside: both must be from 0 to 1"
    other = read(squidle, SQUIDLE, label="label.lineage_names")[0]
    assert "Physical > Sand" in {row["label"] for row in other}


def test_a_squidle_export_without_keys_of_media_names_images_by_their_addresses():
    text = (
        ",label.id,label.name,point.id,point.media.id,point.media.path_best,point.x,point.y\n"
        "0,7,Sand,1,2,https://s3/x/full_res/deep/b.jpg,0.5,0.25\n"
        "1,7,Sand,1,2,https://s3/x/full_res/deep/z.jpg,0.5,0.25\n"
    )
    (row,), rejects = read(squidle, text)
    assert (row["key"], row["row"], row["col"]) == ("deep/b.jpg", 75, 200)
    assert [why for _, why, _ in rejects] == ["no_such_image"]


def test_squidles_address_takes_precedence_over_a_key_without_an_extension():
    keys = ["PR_1.jpg", "d2/PR_1.jpg", "PR_2.jpg"]
    text = (
        "label.name,point.media.key,point.media.path_best,point.x,point.y\n"
        "Sand,PR_1,https://s3/x/d2/PR_1.jpg,0.5,0.25\n"
        "Sand,PR_1,https://s3/x/d1/PR_1.jpg,0.5,0.25\n"
        "Sand,PR_2,,0.5,0.25\n"
    )
    params = squidle.Settings(format="squidle", path="x")
    found, rejects = squidle.read(
        AnnotationSource("x", text.encode(), keys, [(100, 200)] * 3), params
    )
    assert {row["line"]: row["key"] for row in found.to_pylist()} == {
        "2": "d2/PR_1.jpg",
        "3": "PR_1.jpg",
        "4": "PR_2.jpg",
    }
    assert rejects == []


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "a page of the API"])
def test_squidles_json_is_its_csv(nested):
    """As its export gives it, a record a row; or as its API lists it, objects in objects."""
    corners = [[-0.1, -0.2], [-0.1, 0.2], [0.1, 0.2], [0.1, -0.2], [-0.1, -0.2]]
    flat = [
        {"point.media.key": "a.jpg", "point.x": 0.5, "point.y": 0.25, "label.name": "Sand"},
        {
            "point.media.key": "A1",
            "point.media.path_best": "https://s3/x/deep/b.jpg",
            "point.x": 0.5,
            "point.y": 0.5,
            "point.polygon": corners,
            "label.name": "Urchin",
            "needs_review": False,
        },
        {"point.media.key": "a.jpg", "point.x": None, "point.y": None, "label.name": "Clear"},
        {"point.media.key": "a.jpg", "point.x": 0, "label.name": "Guess", "needs_review": True},
    ]
    objects = [
        {
            "label": {"id": 7, "name": row["label.name"]},
            "needs_review": row.get("needs_review"),
            "point": {
                "x": row["point.x"],
                "y": row.get("point.y"),
                "data": {"polygon": row.get("point.polygon")},
                "media": {
                    "key": row["point.media.key"],
                    "path_best": row.get("point.media.path_best"),
                },
            },
        }
        for row in flat
    ]
    rows, rejects = read(squidle, {"num_results": 4, "objects": objects} if nested else flat)
    found = {row["label"]: row for row in rows}
    assert (found["Sand"]["row"], found["Sand"]["col"]) == (25, 100)
    assert found["Urchin"]["key"] == "deep/b.jpg"
    assert window(found["Urchin"]) == (90, 160, 120, 80)
    assert (found["Clear"]["row"], found["Clear"]["top"]) == (None, None)
    assert rejects == [("a.jpg", "unconfirmed", "test.file:[3]: the label needs review")]


SPOTS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 199)), min_size=1, max_size=5, unique=True
)


@settings(max_examples=25, deadline=None)
@given(SPOTS)
def test_every_format_gives_the_same_points(spots):
    want = sorted(("a.jpg", row, col, "kelp") for row, col in spots)
    csv = "image,row,column,label\n" + "".join(f"a.jpg,{row},{col},kelp\n" for row, col in spots)
    marks = ";".join(f"{col}.50,{row}.50" for row, col in spots)
    xml = f'<points label="kelp" points="{marks}"/>'
    shares = "".join(f"kelp,a.jpg,{(col + 0.5) / 200},{(row + 0.5) / 100}\n" for row, col in spots)
    percent = [
        labelled("keypointlabels", ["kelp"], {"x": (col + 0.5) / 2, "y": row + 0.5})
        for row, col in spots
    ]
    files = [
        (cvat, f'<annotations><image name="a.jpg">{xml}</image></annotations>'),
        (squidle, f"label.name,point.media.key,point.x,point.y\n{shares}"),
        (labelstudio, [task(*percent)]),
    ]
    params = points.Settings(format="points", path="x")
    table, _ = points.read(AnnotationSource("x", csv.encode(), KEYS), params)
    found = [table.to_pylist(), *(read(part, data)[0] for part, data in files)]
    for rows in found:
        assert sorted((row["key"], row["row"], row["col"], row["label"]) for row in rows) == want


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), st.integers(1, 60))
def test_every_label_is_read_by_every_format(label, side):
    """Whatever a label is called, it is that label, or nothing where it is blank."""
    want = unicodedata.normalize("NFC", label.strip()) or None
    whole = changed(0, bbox=[1, 1, side, side])
    whole["categories"][0]["name"] = label
    from_coco = [row for row in read(coco, whole)[0] if row["line"] == "annotations[0]"]
    mark = f'<box label={quoteattr(label)} xtl="1" ytl="1" xbr="{side + 1}" ybr="{side + 1}"/>'
    from_cvat, _ = read(cvat, f'<annotations><image name="a.jpg">{mark}</image></annotations>')
    from_studio, _ = read(labelstudio, [task(labelled("choices", [label], {}))])
    for rows in (from_coco, from_cvat, from_studio):
        assert [row["label"] for row in rows] == [want]
    assert window(from_coco[0]) == window(from_cvat[0]) == (1, 1, side, side)
