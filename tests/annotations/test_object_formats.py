"""What formats of objects have in common: errors, encodings, labels and places."""

import json
import unicodedata
from contextlib import suppress
from itertools import cycle
from xml.sax.saxutils import quoteattr

import pytest
from annotation_files import BOX, COCO, KEYS, changed, labelled, read, task, window
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations import AnnotationSource, boxes, coco, cvat, labelstudio, points, squidle
from pipeline.core.errors import InputError


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
    named = boxes.BoxColumns(left="L", top="T", width="B", height="H")
    text = "image;label;L;T;B;H\na.jpg;fish;10;20;20;20\n"
    assert window(read(boxes, text, columns=named)[0][0]) == (20, 10, 20, 20)


SPOTS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 199)), min_size=1, max_size=5, unique=True
)


@settings(max_examples=25, deadline=None)
@given(SPOTS)
def test_every_format_gives_the_same_points(spots):
    expected = sorted(("a.jpg", row, col, "kelp") for row, col in spots)
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
    read_rows = [table.to_pylist(), *(read(part, data)[0] for part, data in files)]
    for rows in read_rows:
        assert (
            sorted((row["key"], row["row"], row["col"], row["label"]) for row in rows) == expected
        )


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), st.integers(1, 60))
def test_every_label_is_read_by_every_format(label, side):
    """Whatever a label is called, it is that label, or nothing where it is blank."""
    expected = unicodedata.normalize("NFC", label.strip()) or None
    whole = changed(0, bbox=[1, 1, side, side])
    whole["categories"][0]["name"] = label
    from_coco = [row for row in read(coco, whole)[0] if row["line"] == "annotations[0]"]
    mark = f'<box label={quoteattr(label)} xtl="1" ytl="1" xbr="{side + 1}" ybr="{side + 1}"/>'
    from_cvat, _ = read(cvat, f'<annotations><image name="a.jpg">{mark}</image></annotations>')
    from_studio, _ = read(labelstudio, [task(labelled("choices", [label], {}))])
    for rows in (from_coco, from_cvat, from_studio):
        assert [row["label"] for row in rows] == [expected]
    assert window(from_coco[0]) == window(from_cvat[0]) == (1, 1, side, side)
