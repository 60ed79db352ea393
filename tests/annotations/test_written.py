"""Files for annotation tools: the tools can read them, and so can the formats here."""

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
    """Draw a chip with a prediction, its window inside its image."""
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


def written(chips, **more):
    unique = {(chip.key, chip.window): chip for chip in chips}
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
    """Return key and window; a label of a whole image has no window."""
    return (chip.key, *((None,) * 4 if chip.is_whole else chip.window))


def in_order(rows):
    return sorted(rows, key=repr)


def read_back(rows):
    return in_order((row["key"], *(row[side] for side in WINDOW), row["label"]) for row in rows)


MANY = st.lists(chips(), min_size=1, max_size=6)


@pytest.mark.parametrize("part", [coco, cvat, squidle], ids=["coco", "cvat", "squidle"])
@settings(max_examples=25, deadline=None)
@given(predicted=MANY)
def test_predictions_written_as_boxes_are_read_again(part, predicted):
    annotations = written(predicted)
    whole = (lambda chip: (chip.key, *chip.window)) if part is coco else place
    want = [(*whole(chip), chip.label_to_write) for chip in annotations.rows]
    more = {"keep_unconfirmed": True} if part is squidle else {}
    assert read_back(again(part, part.write(annotations), **more)) == in_order(want)


@settings(max_examples=25, deadline=None)
@given(predicted=MANY)
def test_label_studios_tasks_have_predictions_and_labels_of_people_as_annotations(predicted):
    annotations = written(predicted)
    data = labelstudio.write(annotations)
    labelled = [chip for chip in annotations.rows if chip.label is not None]
    assert read_back(again(labelstudio, data)) == in_order(
        (*place(chip), chip.label) for chip in labelled
    )
    for task in json.loads(data):
        of_task = [chip for chip in annotations.rows if chip.key == task["data"]["key"]]
        assert task["data"]["image"] == f"s3://bucket/x/{task['data']['key']}"
        (prediction,) = task["predictions"]
        assert prediction["score"] == pytest.approx(min(chip.score for chip in of_task), abs=1e-6)
        scores = [result["score"] for result in prediction["result"]]
        assert scores == [chip.score for chip in of_task]
        results = [*prediction["result"], *task.get("annotations", [{"result": []}])[0]["result"]]
        assert len({result["id"] for result in results}) == len(results)


@settings(max_examples=25, deadline=None)
@given(predicted=MANY)
def test_predictions_of_label_studio_are_read_with_keep_unconfirmed(predicted):
    bare = [AnnotatedChip(**{**fields(chip), "label": None}) for chip in predicted]
    annotations = written(bare)
    rows = again(labelstudio, labelstudio.write(annotations), keep_unconfirmed=True)
    assert read_back(rows) == in_order(
        (*place(chip), chip.label_to_write) for chip in annotations.rows
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
    annotations = written([one(window=(-4, 48, 24, 24), row=8)], at_points=True)
    for part in (labelstudio, squidle):
        (row,) = again(part, part.write(annotations), keep_unconfirmed=True)
        assert (row["row"], row["col"], row["label"]) == (8, 60, "Porites")


def test_predictions_need_review_in_squidle_and_labels_of_people_do_not():
    annotations = written(
        [one(), one(key="ä.jpg", label_to_write="Sand", score=None)], prefix="reef/"
    )
    rows = list(csv.DictReader(io.StringIO(squidle.write(annotations).decode())))
    facts = ("point.media.key", "label.name", "likelihood", "needs_review")
    assert [tuple(row[name] for name in facts) for row in rows] == [
        ("a.jpg", "Porites", "0.750000", "True"),
        ("ä.jpg", "Sand", "", "False"),
    ]
    assert [row["label"] for row in again(squidle, squidle.write(written([one(score=None)])))] == [
        "Porites"
    ]


def test_a_box_is_cut_where_its_window_reaches_over_the_border():
    for part in (coco, cvat):
        (row,) = again(part, part.write(written([one(window=(-4, 200, 24, 24))])))
        assert tuple(row[side] for side in WINDOW) == (0, 200, 20, 11)


def test_pycocotools_reads_the_file_and_its_annotations_as_results(tmp_path):
    data = coco.write(written([one(), one(key="ä.jpg", label_to_write="Sand", score=0.5)]))
    path = tmp_path / "results.json"
    path.write_bytes(data)
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(path))
        results = loaded.loadRes(loaded.dataset["annotations"])
    names = {category["id"]: category["name"] for category in loaded.loadCats(loaded.getCatIds())}
    files = {image["id"]: image["file_name"] for image in loaded.loadImgs(loaded.getImgIds())}
    rows = results.loadAnns(results.getAnnIds())
    assert sorted(
        (files[row["image_id"]], names[row["category_id"]], tuple(row["bbox"]), row["score"])
        for row in rows
    ) == [
        ("reef/a.jpg", "Porites", (48, 38, 24, 24), 0.75),
        ("ä.jpg", "Sand", (48, 38, 24, 24), 0.5),
    ]


def test_several_labels_are_several_annotations_of_a_chip():
    annotations = written([one(label_to_write="fish;kelp")], separator=";")
    for part in (coco, cvat, squidle):
        more = {"keep_unconfirmed": True} if part is squidle else {}
        rows = again(part, part.write(annotations), label_separator=";", **more)
        assert sorted(row["label"] for row in rows) == ["fish", "kelp"]
    (task,) = json.loads(labelstudio.write(annotations))
    (result,) = task["predictions"][0]["result"]
    assert result["value"]["rectanglelabels"] == ["fish", "kelp"]


def test_coralnets_upload_has_all_points_of_its_images_and_keeps_peoples_labels():
    """An upload replaces all points and labels of an image."""
    annotations = WrittenAnnotations(
        rows=[one(), one(row=51, label_to_write=None, score=None), one(row=52, label="Sand")],
        others=[one(row=1, col=2, label="CCA", label_to_write=None, score=None)],
        prefix="reef/",
    )
    data = coralnet.write(annotations)
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


def test_the_error_for_chips_that_a_format_cannot_hold_gives_the_reason():
    same_name = written([one(), one(key="other/a.jpg")])
    with pytest.raises(InputError) as stop:
        coralnet.write(same_name)
    assert str(stop.value) == (
        "coralnet: other/a.jpg and reef/a.jpg have the same name there, a.jpg; upload them to "
        "different sources"
    )
    with pytest.raises(InputError, match="^coralnet: a point there has one label; reef/a.jpg has"):
        coralnet.write(written([one(label_to_write="a;b")], separator=";"))
    with pytest.raises(InputError, match="^ecotaxa: an object there is an image; reef/a.jpg"):
        ecotaxa.write(written([one()]))
    whole = {"window": (0, 0, 97, 211)}
    with pytest.raises(InputError, match="^ecotaxa: other/a.png and reef/a.jpg would be the same"):
        ecotaxa.write(written([one(**whole), one(key="other/a.png", **whole)]))


def test_ecotaxas_objects_are_predicted_or_validated():
    whole = {"window": (0, 0, 97, 211)}
    annotations = written(
        [
            one(**whole),
            one(key="ä.jpg", window=(0, 0, 97, 211), label_to_write="egg<other", score=None),
        ],
        prefix="reef/",
    )
    data = ecotaxa.write(annotations)
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
