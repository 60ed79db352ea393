"""Formats with points, boxes, outlines and words about images in one file."""

import json
import unicodedata
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks

from pipeline.annotations import Source, boxes, coco, cvat, labelstudio, points, squidle
from pipeline.annotations._objects import Names
from pipeline.errors import InputError

KEYS = ["a.jpg", "deep/b.jpg", "c.jpg"]
SIZES = [(100, 200), (300, 400), (50, 50)]
WINDOW = ("top", "left", "height", "width")


def read(part, data, **more):
    text = data if isinstance(data, bytes | str) else json.dumps(data)
    name = part.__name__.rpartition(".")[2]
    params = part.Params(format=name, path=f"x/{name}.file", **more)
    raw = text.encode() if isinstance(text, str) else text
    table, rejects = part.read(Source("said.file", raw, KEYS, SIZES), params)
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
    said = {"size": [height, width], "counts": packed["counts"].decode()}
    rows, rejects = read(coco, changed(0, segmentation=said))
    mine = [row for row in rows if row["line"] == "annotations[0]"]
    if not mask.any():
        assert mine == []
        assert rejects == [
            ("a.jpg", "not_a_box", "said.file:annotations[0]: the mask is empty"),
        ]
        return
    (row,) = mine
    top, left, high, wide = window(row)
    found = np.zeros_like(mask)
    bits = np.unpackbits(np.frombuffer(row["pixels"], np.uint8), count=high * wide)
    found[top : top + high, left : left + wide] = bits.reshape(high, wide)
    assert np.array_equal(found, mask)
    assert [left, top, wide, high] == coco_masks.toBbox(packed).tolist()


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"image_id": 8}, "no_such_image", "its image_id is none of the file's"),
        ({"image_id": [7]}, "no_such_image", "its image_id is none of the file's"),
        ({"category_id": 2}, "unreadable_row", "its category_id is none of the file's"),
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
        ({"segmentation": [[1, 2, 3, 4]]}, "not_a_box", "an outline needs three corners or more"),
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
        (reason, f"said.file:annotations[0]: {detail}")
    ]


@pytest.mark.parametrize(
    ("part", "data", "message"),
    [
        (coco, b"[", "said.file: not JSON: "),
        (coco, b"[]", "said.file: has no list 'images'; a COCO file has images, annotations and"),
        (labelstudio, b"{}", "said.file: is no list of tasks; export them as JSON, not JSON-MIN"),
        (labelstudio, b"\xff[]", "said.file: not JSON: 'utf-8' codec can't decode byte 0xff"),
        (labelstudio, b"[" * 100_000, "said.file: not JSON: "),
        (cvat, b"<annotations>", "said.file: not XML: no element found"),
        (cvat, b"<coco/>", "said.file: its root is 'coco'; CVAT's is 'annotations'"),
        (
            cvat,
            b'<annotations>\n<track id="0"/></annotations>',
            "said.file:2: has tracks; export the task as 'CVAT for images 1.1'",
        ),
        (
            cvat,
            b'<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations/>',
            "said.file: declares a document type, which CVAT's files do not",
        ),
        (
            boxes,
            b"image,label,left,top\na.jpg,x,1,2\n",
            "said.file:1: no columns for width and height, or right and bottom",
        ),
        (
            squidle,
            b"point.x,point.y,point.media.key\n",
            "said.file:1: no column for label among point.x, point.y, point.media.key",
        ),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(part, data, message):
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
        ("a.jpg", "not_a_box", "said.file:10: a polyline has no pixels of its own"),
        ("a.jpg", "not_a_box", "said.file:16: ytl 'x' is not a number of pixels"),
    ]
    assert [row["line"] for row in rows if row["label"] == "plate"] == ["6"]


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


def task(*results, image="s3://bucket/reef/a.jpg", **more):
    said = {"id": 1001, "was_cancelled": False, "ground_truth": False, "result": list(results)}
    return {"id": 1, "data": {"image": image}, "annotations": [said], "predictions": [], **more}


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
                labelled("brushlabels", ["sand"], {"format": "rle", "rle": [1]}),
                {"type": "rating", "value": {"rating": 3}, "from_name": "r", "to_name": "image"},
            )
        ],
    )
    found = {row["label"]: row for row in rows}
    assert window(found["fish"]) == window(found["per region"]) == (20, 20, 10, 10)
    # Turned by a quarter about its top left corner, a box lies to the left of it.
    assert window(found["turned"]) == (20, 10, 10, 10)
    assert window(found["coral"]) == (0, 0, 100, 100)
    assert window(found["disc"]) == (40, 80, 20, 40)
    assert (found["shell"]["row"], found["shell"]["col"]) == (99, 100)
    assert (found["blurred"]["row"], found["blurred"]["top"]) == (None, None)
    assert rejects == [
        (
            "a.jpg",
            "not_a_box",
            "said.file:[0].annotations[0].result[7]: brushlabels are not read",
        )
    ]


def test_of_label_studios_annotations_those_count_that_a_person_stands_by():
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


def test_tasks_of_exported_chips_speak_of_the_chips_middle():
    data = {"image": "s3://b/chips/0001.png", "chip_id": "00", "chip_key": "deep/b.jpg"}
    own = task(labelled("choices", ["weed"], {}), labelled("rectanglelabels", ["x"], BOX))
    rows, rejects = read(labelstudio, [own | {"data": data | {"chip_row": 31, "chip_col": 7}}])
    assert [(row["key"], row["row"], row["col"], row["label"]) for row in rows] == [
        ("deep/b.jpg", 31, 7, "weed")
    ]
    place = "said.file:[0].annotations[0].result[1]"
    assert rejects[0][2] == f"{place}: rectanglelabels on the image of a chip are not read"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_are_read_in_every_encoding_that_they_may_have(encoding):
    tasks = json.dumps([task(labelled("choices", ["Äste"], {}))], ensure_ascii=False)
    named = "utf-16" if encoding == "utf-16" else "utf-8"
    tag = '<image name="a.jpg"><tag label="Äste"/></image>'
    xml = f'<?xml version="1.0" encoding="{named}"?><annotations>{tag}</annotations>'
    for part, text in ((labelstudio, tasks), (cvat, xml)):
        assert [row["label"] for row in read(part, text.encode(encoding))[0]] == ["Äste"]


def test_a_label_that_holds_the_separator_is_rejected():
    said = [task(labelled("choices", ["a;b", "c"], {}))]
    rows, rejects = read(labelstudio, said, label_separator=";")
    assert [row["label"] for row in rows] == []
    assert rejects[0][1:] == (
        "unreadable_row",
        (
            "said.file:[0].annotations[0].result[0]: the label 'a;b' holds ';'; "
            "set another label_separator"
        ),
    )


def test_images_are_found_by_the_addresses_that_tools_give_them():
    names = Names(["site/1.jpg", "1.jpg", "p/2 3.jpg"], "")
    assert names.key("site/1.jpg") == "site/1.jpg"
    assert names.key("s3://bucket/reef/site/1.jpg") == "site/1.jpg"
    assert names.key("https://x.org/other/1.jpg?signature=/a/site/1.jpg") == "1.jpg"
    assert names.key("/data/local-files/?d=reef/p/2%203.jpg") == "p/2 3.jpg"
    assert names.key("/data/upload/4/0123abcd-1.jpg") == "1.jpg"
    assert names.key("nowhere/1.jpg") == "nowhere/1.jpg"
    assert Names(["p/2.jpg"], "p/").key("2.jpg") == "p/2.jpg"


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
        ("a.jpg", "not_a_box", "said.file:4: the box from 10, 20 to 10, 40 is empty")
    ]
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
    assert rejects[2][2] == "said.file:8: 1.5, 0.5 are no shares of an image"
    other = read(squidle, SQUIDLE, label="label.lineage_names")[0]
    assert "Physical > Sand" in {row["label"] for row in other}


SPOTS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 199)), min_size=1, max_size=5, unique=True
)


@settings(max_examples=25, deadline=None)
@given(SPOTS)
def test_the_same_points_come_out_of_every_tools_file(spots):
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
    params = points.Params(format="points", path="x")
    table, _ = points.read(Source("x", csv.encode(), KEYS), params)
    found = [table.to_pylist(), *(read(part, data)[0] for part, data in files)]
    for rows in found:
        assert sorted((row["key"], row["row"], row["col"], row["label"]) for row in rows) == want


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), st.integers(1, 60))
def test_no_label_breaks_a_format(label, side):
    """Whatever a label is called, it is that label, or nothing where it is blank."""
    want = unicodedata.normalize("NFC", label.strip()) or None
    said = changed(0, bbox=[1, 1, side, side])
    said["categories"][0]["name"] = label
    from_coco = [row for row in read(coco, said)[0] if row["line"] == "annotations[0]"]
    mark = f'<box label={quoteattr(label)} xtl="1" ytl="1" xbr="{side + 1}" ybr="{side + 1}"/>'
    from_cvat, _ = read(cvat, f'<annotations><image name="a.jpg">{mark}</image></annotations>')
    from_studio, _ = read(labelstudio, [task(labelled("choices", [label], {}))])
    for rows in (from_coco, from_cvat, from_studio):
        assert [row["label"] for row in rows] == [want]
    assert window(from_coco[0]) == window(from_cvat[0]) == (1, 1, side, side)
