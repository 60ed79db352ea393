"""What is written for annotation tools: their own readers take it, and ours read the same again."""

import contextlib
import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from pipeline.annotations import (
    AnnotationSource,
    coco,
    coralnet,
    cvat,
    ecotaxa,
    labelstudio,
    squidle,
)
from pipeline.annotations._written import AnnotatedChip, WrittenAnnotations
from pipeline.core.errors import InputError

KEYS = ["reef/a.jpg", "reef/b c.jpg", "ä.jpg"]
SIZES = [(97, 211), (300, 401), (64, 64)]
WINDOW = ("top", "left", "height", "width")

LABELS = st.sampled_from(["Porites", "Äste & <Co>", 'a "b"', "01"])


@st.composite
def chips(draw):
    """One chip with an answer, its window inside its image."""
    place = draw(st.integers(0, 2))
    high, wide = SIZES[place]
    top, left = draw(st.integers(0, high - 1)), draw(st.integers(0, wide - 1))
    height, width = draw(st.integers(1, high - top)), draw(st.integers(1, wide - left))
    return AnnotatedChip(
        key=KEYS[place],
        row=top + height // 2,
        col=left + width // 2,
        window=(top, left, height, width),
        image_height=high,
        image_width=wide,
        label=draw(st.none() | LABELS),
        label_to_write=draw(LABELS),
        score=draw(st.floats(0.25, 1, width=32)),
    )


def answers(some, **more):
    unique = {(chip.key, chip.window): chip for chip in some}
    rows = sorted(unique.values(), key=lambda chip: (chip.key, chip.row, chip.col, chip.window))
    return WrittenAnnotations(rows=rows, url="s3://bucket/x", model="quadrat 0123", **more)


def again(part, data, **more):
    """Read what was written."""
    name = part.__name__.rpartition(".")[2]
    params = part.Settings(format=name, path=name, **more)
    table, rejects = part.read(AnnotationSource(name, data, KEYS, SIZES), params)
    assert [reject.detail for reject in rejects] == []
    return table.to_pylist()


def place(chip):
    """A word about the whole image has no window."""
    return (chip.key, *((None,) * 4 if chip.is_whole else chip.window))


def in_order(rows):
    return sorted(rows, key=repr)


def read_back(rows):
    return in_order((row["key"], *(row[side] for side in WINDOW), row["label"]) for row in rows)


MANY = st.lists(chips(), min_size=1, max_size=6)


@pytest.mark.parametrize("part", [coco, cvat, squidle], ids=["coco", "cvat", "squidle"])
@settings(max_examples=25, deadline=None)
@given(some=MANY)
def test_answers_written_as_boxes_are_read_as_they_were(part, some):
    given_back = answers(some)
    whole = (lambda chip: (chip.key, *chip.window)) if part is coco else place
    want = [(*whole(chip), chip.label_to_write) for chip in given_back.rows]
    more = {"keep_unconfirmed": True} if part is squidle else {}
    assert read_back(again(part, part.write(given_back), **more)) == in_order(want)


@settings(max_examples=25, deadline=None)
@given(some=MANY)
def test_label_studios_tasks_hold_answers_as_predictions_and_labels_as_annotations(some):
    given_back = answers(some)
    data = labelstudio.write(given_back)
    labelled = [chip for chip in given_back.rows if chip.label is not None]
    assert read_back(again(labelstudio, data)) == in_order(
        (*place(chip), chip.label) for chip in labelled
    )
    for task in json.loads(data):
        own = [chip for chip in given_back.rows if chip.key == task["data"]["key"]]
        assert task["data"]["image"] == f"s3://bucket/x/{task['data']['key']}"
        (prediction,) = task["predictions"]
        assert prediction["score"] == pytest.approx(min(chip.score for chip in own), abs=1e-6)
        scores = [result["score"] for result in prediction["result"]]
        assert scores == [chip.score for chip in own]
        every = [*prediction["result"], *task.get("annotations", [{"result": []}])[0]["result"]]
        assert len({result["id"] for result in every}) == len(every)


@settings(max_examples=25, deadline=None)
@given(some=MANY)
def test_without_labels_the_predictions_are_what_is_read_where_they_count(some):
    bare = [AnnotatedChip(**{**fields(chip), "label": None}) for chip in some]
    given_back = answers(bare)
    rows = again(labelstudio, labelstudio.write(given_back), keep_unconfirmed=True)
    assert read_back(rows) == in_order(
        (*place(chip), chip.label_to_write) for chip in given_back.rows
    )


def fields(chip):
    return {name: getattr(chip, name) for name in AnnotatedChip.__dataclass_fields__}


def one(**changed):
    chip = {
        "key": "reef/a.jpg",
        "row": 50,
        "col": 60,
        "window": (38, 48, 24, 24),
        "image_height": 97,
        "image_width": 211,
        "label": None,
        "label_to_write": "Porites",
        "score": 0.75,
    }
    return AnnotatedChip(**{**chip, **changed})


def test_chips_of_points_are_keypoints_at_their_pixels():
    given_back = answers([one(window=(-4, 48, 24, 24), row=8)], at_points=True)
    for part in (labelstudio, squidle):
        (row,) = again(part, part.write(given_back), keep_unconfirmed=True)
        assert (row["row"], row["col"], row["label"]) == (8, 60, "Porites")


def test_squidles_answers_need_review_and_peoples_labels_do_not():
    given_back = answers(
        [one(), one(key="ä.jpg", label_to_write="Sand", score=None)], prefix="reef/"
    )
    rows = list(csv.DictReader(io.StringIO(squidle.write(given_back).decode())))
    facts = ("point.media.key", "label.name", "likelihood", "needs_review")
    assert [tuple(row[name] for name in facts) for row in rows] == [
        ("a.jpg", "Porites", "0.750000", "True"),
        ("ä.jpg", "Sand", "", "False"),
    ]
    assert [row["label"] for row in again(squidle, squidle.write(answers([one(score=None)])))] == [
        "Porites"
    ]


def test_a_box_is_cut_where_its_window_reaches_over_the_border():
    for part in (coco, cvat):
        (row,) = again(part, part.write(answers([one(window=(-4, 200, 24, 24))])))
        assert tuple(row[side] for side in WINDOW) == (0, 200, 20, 11)


def test_pycocotools_takes_the_file_and_its_annotations_as_results(tmp_path):
    data = coco.write(answers([one(), one(key="ä.jpg", label_to_write="Sand", score=0.5)]))
    path = tmp_path / "results.json"
    path.write_bytes(data)
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(str(path))
        results = found.loadRes(found.dataset["annotations"])
    names = {category["id"]: category["name"] for category in found.loadCats(found.getCatIds())}
    files = {image["id"]: image["file_name"] for image in found.loadImgs(found.getImgIds())}
    rows = results.loadAnns(results.getAnnIds())
    assert sorted(
        (files[row["image_id"]], names[row["category_id"]], tuple(row["bbox"]), row["score"])
        for row in rows
    ) == [
        ("reef/a.jpg", "Porites", (48, 38, 24, 24), 0.75),
        ("ä.jpg", "Sand", (48, 38, 24, 24), 0.5),
    ]


def test_several_labels_are_several_annotations_of_a_chip():
    given_back = answers([one(label_to_write="fish;kelp")], separator=";")
    for part in (coco, cvat, squidle):
        more = {"keep_unconfirmed": True} if part is squidle else {}
        rows = again(part, part.write(given_back), label_separator=";", **more)
        assert sorted(row["label"] for row in rows) == ["fish", "kelp"]
    (task,) = json.loads(labelstudio.write(given_back))
    (result,) = task["predictions"][0]["result"]
    assert result["value"]["rectanglelabels"] == ["fish", "kelp"]


def test_coralnets_upload_has_all_points_of_its_images_and_keeps_peoples_labels():
    """An upload replaces all that CoralNet knows of an image."""
    given_back = WrittenAnnotations(
        rows=[one(), one(row=51, label_to_write=None, score=None), one(row=52, label="Sand")],
        others=[one(row=1, col=2, label="CCA", label_to_write=None, score=None)],
        prefix="reef/",
    )
    data = coralnet.write(given_back)
    assert list(csv.reader(io.StringIO(data.decode()))) == [
        ["Name", "Row", "Column", "Label code"],
        ["a.jpg", "1", "2", "CCA"],
        ["a.jpg", "50", "60", "Porites"],
        ["a.jpg", "51", "60", ""],
        ["a.jpg", "52", "60", "Sand"],
    ]
    params = coralnet.Settings(format="coralnet", path="x", prefix="reef/")
    table, rejects = coralnet.read(AnnotationSource("x", data, KEYS), params)
    assert rejects == []
    assert table["label"].to_pylist() == ["CCA", "Porites", None, "Sand"]


def test_what_a_format_cannot_say_stops_with_the_reason():
    twins = answers([one(), one(key="other/a.jpg")])
    with pytest.raises(InputError) as stop:
        coralnet.write(twins)
    assert str(stop.value) == (
        "coralnet: other/a.jpg and reef/a.jpg have one name there, a.jpg; upload them to different "
        "sources"
    )
    with pytest.raises(InputError, match="^coralnet: a point there has one label; reef/a.jpg has"):
        coralnet.write(answers([one(label_to_write="a;b")], separator=";"))
    with pytest.raises(InputError, match="^ecotaxa: an object there is an image, and reef/a.jpg"):
        ecotaxa.write(answers([one()]))
    whole = {"window": (0, 0, 97, 211)}
    with pytest.raises(InputError, match="^ecotaxa: other/a.png and reef/a.jpg would be one"):
        ecotaxa.write(answers([one(**whole), one(key="other/a.png", **whole)]))


def test_ecotaxas_objects_are_predicted_or_validated():
    whole = {"window": (0, 0, 97, 211)}
    given_back = answers(
        [
            one(**whole),
            one(key="ä.jpg", window=(0, 0, 97, 211), label_to_write="egg<other", score=None),
        ],
        prefix="reef/",
    )
    data = ecotaxa.write(given_back)
    assert data.decode().splitlines() == [
        "img_file_name\tobject_id\tobject_annotation_category\tobject_annotation_status",
        "[t]\t[t]\t[t]\t[t]",
        "a.jpg\ta\tPorites\tpredicted",
        "ä.jpg\tä\tegg<other\tvalidated",
    ]
    params = ecotaxa.Settings(format="ecotaxa", path="x", prefix="reef/")
    table, rejects = ecotaxa.read(AnnotationSource("x", data, []), params)
    assert table["label"].to_pylist() == ["egg<other"]
    assert [reject.reason for reject in rejects] == ["unconfirmed"]
