"""Label Studio's JSON: regions and choices, and which annotations of a task are read."""

import numpy as np
import pytest
from annotation_files import BOX, labelled, read, task, window
from test_labelstudio_brush import packed_by_runs

from pipeline.annotations import labelstudio
from pipeline.core.errors import InputError

PICTURE = np.zeros((100, 200, 4), int)
PICTURE[3, 5:8], PICTURE[4, 6:9] = 255, 255
PAINTED = packed_by_runs(PICTURE.ravel().tolist(), [4 * 10**4] * 2, 8, [3, 4, 8, 16])


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
    by_label = {row["label"]: row for row in rows}
    for label in ("fish", "per region", "by a Labels tag"):
        assert window(by_label[label]) == (20, 20, 10, 10)
    # Turned by a quarter about its top left corner, a box lies to the left of it.
    assert window(by_label["turned"]) == (20, 10, 10, 10)
    assert window(by_label["coral"]) == (0, 0, 100, 100)
    assert window(by_label["disc"]) == (40, 80, 20, 40)
    assert (by_label["shell"]["row"], by_label["shell"]["col"]) == (99, 100)
    assert (by_label["blurred"]["row"], by_label["blurred"]["top"]) == (None, None)
    assert window(by_label["painted"]) == (3, 5, 2, 4)
    assert by_label["painted"]["pixels"] == np.packbits([1, 1, 1, 0, 0, 1, 1, 1]).tobytes()
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
    of_chip = task(labelled("choices", ["weed"], {}), labelled("rectanglelabels", ["x"], BOX))
    rows, rejects = read(labelstudio, [of_chip | {"data": data | {"chip_row": 31, "chip_col": 7}}])
    assert [(row["key"], row["row"], row["col"], row["label"]) for row in rows] == [
        ("deep/b.jpg", 31, 7, "weed")
    ]
    place = "test.file:[0].annotations[0].result[1]"
    assert rejects[0][2] == f"{place}: rectanglelabels are not read on the image of a chip"


def test_an_uploaded_image_whose_name_two_images_have_is_a_reject_that_names_one():
    upload = task(labelled("choices", ["x"], {}), image="/data/upload/1/0123abcd-a.jpg")
    (rows, rejects) = read(labelstudio, [upload])
    assert rows == []
    (reject,) = rejects
    assert reject[1:] == (
        "no_such_image",
        "test.file:[0]: /data/upload/1/0123abcd-a.jpg was uploaded without its folder, and 2 "
        "images have its name, such as a.jpg; add its key to the task's data",
    )
    upload["data"]["image"] = "/data/upload/1/0123abcd-b.jpg"
    (row,), rejects = read(labelstudio, [upload])
    assert (row["key"], rejects) == ("deep/b.jpg", [])
