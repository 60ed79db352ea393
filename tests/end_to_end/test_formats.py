"""Other people's annotation files, from the file to the chips and back again."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from conftest import KINDS, SIZE
from test_repro import counts

from pipeline.annotations import AnnotationSource, coralnet

BOXES = ((4, 6, 30, 20), (10, 40, 24, 50), (48, 8, 40, 40))
"""Top, left, height, width of the objects on each image."""


def coco(repo):
    """Describe the textures as COCO would: three boxes an image, and one that lies outside."""
    keys = sorted({point["image"] for point in repo.bucket.points})
    whole = {
        "images": [
            {"id": at, "file_name": key, "width": SIZE, "height": SIZE}
            for at, key in enumerate(keys)
        ],
        "categories": [{"id": at, "name": kind} for at, kind in enumerate(KINDS)],
        "annotations": [],
    }
    for at, key in enumerate(keys):
        for top, left, height, width in BOXES:
            kind = KINDS.index(key.partition("/")[0])
            box = {"image_id": at, "category_id": kind, "bbox": [left, top, width, height]}
            whole["annotations"].append({"id": len(whole["annotations"]) + 1, **box})
    whole["annotations"][7]["bbox"] = [SIZE, 0, 5, 5]
    (repo.path / "coco.json").write_text(json.dumps(whole))
    repo.set(annotations__format="coco", annotations__path="coco.json", chip__max_rejects=0.02)
    return keys


def table(repo, path):
    return pq.read_table(repo.path / path).to_pylist()


def windows(repo):
    parts = [pq.read_table(path) for path in sorted((repo.path / "data/chips").glob("0*.parquet"))]
    return [row for part in parts for row in part.to_pylist()]


@pytest.mark.slow
def test_objects_of_a_coco_file_are_chips_or_label_those_of_a_grid(repo):
    keys = coco(repo)
    repo.set(chip__method="boxes", chip__size=None)
    repo.run("python", "-m", "stages.index")
    repo.run("python", "-m", "stages.chip")
    found = windows(repo)
    assert len(found) == 3 * len(keys) - 1
    sides = ("top", "left", "height", "width")
    assert {tuple(row[side] for side in sides) for row in found} == set(BOXES)
    labels = table(repo, "data/labels/labels.parquet")
    assert {row["chip_id"] for row in labels} == {row["chip_id"] for row in found}
    assert all(row["label"] == row["key"].partition("/")[0] for row in labels)
    (reject,) = table(repo, "data/rejects/chip.parquet")
    assert reject["reason"] == "window_outside"
    assert reject["detail"].startswith("coco.json:annotations[7]: the object lies outside noise/")

    repo.set(chip__method="grid", chip__size=24, annotations__labelled_by="most")
    repo.run("python", "-m", "stages.chip")
    labels = [row for row in table(repo, "data/labels/labels.parquet") if row["key"] == keys[0]]
    assert len(labels) == (SIZE // 24) ** 2
    # Of a chip's 576 pixels the first box covers 360; the second 336 in its first row of chips, and
    # 240 in the next; the third 384, 576, 256 and 384.
    assert [(row["row"], row["col"]) for row in labels if row["label"]] == [
        (12, 12),
        (12, 60),
        (60, 12),
        (60, 36),
        (84, 36),
    ]


@pytest.mark.slow
def test_answers_are_written_for_a_tool_as_the_predictions_have_them(done_repo, tmp_path):
    target = tmp_path / "tasks.json"
    said = done_repo.said(
        "python", "-m", "stages.annotate", "labelstudio", str(target), "--url", "s3://reef"
    )
    predictions = table(done_repo, "results/predictions.parquet")
    assert f"{target}: {len(predictions)} chips of " in said
    got = {}
    for task in json.loads(target.read_bytes()):
        assert task["data"]["image"] == f"s3://reef/{task['data']['key']}"
        for result in task["predictions"][0]["result"]:
            place = (
                int(result["value"]["y"] * SIZE // 100),
                int(result["value"]["x"] * SIZE // 100),
            )
            (label,) = result["value"]["keypointlabels"]
            got[task["data"]["key"], *place] = (label, pytest.approx(result["score"], abs=1e-6))
    assert got == {
        (row["key"], row["row"], row["col"]): (row["predicted"], row["score"])
        for row in predictions
    }


@pytest.mark.slow
def test_labels_that_people_corrected_in_label_studio_cost_no_feature(copy_of_done):
    repo = copy_of_done()
    command = ("python", "-m", "stages.annotate")
    assert "with a prediction" in repo.said(*command, "labelstudio", "tasks.json", "--of", "all")
    assert "with a label" in repo.said(*command, "coco", "labels.json", "--of", "labels")
    before = {row["chip_id"]: row["label"] for row in table(repo, "data/labels/labels.parquet")}
    repo.set(annotations__format="labelstudio", annotations__path="tasks.json")
    assert "extract" not in counts(repo.said("dvc", "repro"))
    after = {row["chip_id"]: row["label"] for row in table(repo, "data/labels/labels.parquet")}
    assert after == before

    tasks = json.loads((repo.path / "tasks.json").read_bytes())
    corrected = tasks[0]["annotations"][0]["result"][0]["value"]
    corrected["keypointlabels"] = ["weed"]
    (repo.path / "tasks.json").write_text(json.dumps(tasks))
    repo.run("python", "-m", "stages.index")
    repo.run("python", "-m", "stages.chip")
    after = {row["chip_id"]: row["label"] for row in table(repo, "data/labels/labels.parquet")}
    assert sum(after[chip] != before[chip] for chip in before) == 1
    assert "weed" in after.values()


@pytest.mark.slow
def test_unlabelled_points_are_answered_for_coralnet(repo):
    for place, point in enumerate(repo.bucket.points):
        point["label"] = "" if place % 3 == 0 else point["label"]
    repo.points()
    repo.run("dvc", "repro")
    command = ("python", "-m", "stages.annotate", "coralnet", "upload.csv")
    done = repo.run(*command, "--of", "unlabelled", check=False)
    assert done.returncode == 3
    assert "have the same name there, 000.png; upload them to different sources" in done.stderr
    repo.run(*command[:3], "cvat", "answers.xml", "--of", "unlabelled", "--at-least", "0.5")
    assert (repo.path / "answers.xml").read_text().count("<box ") > 10

    one = "noise/000.png"
    repo.set(bucket__include=[one], chip__max_rejects=1.0)
    repo.set(split__validation=0, split__calibration=0)  # nothing is trained on one image
    repo.run("python", "-m", "stages.index")
    repo.run("python", "-m", "stages.chip")
    repo.run(*command, "--of", "unlabelled")
    with (repo.path / "upload.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    own = [point for point in repo.bucket.points if point["image"] == one]
    assert {(int(row["Row"]), int(row["Column"])) for row in rows} == {
        (point["row"], point["column"]) for point in own
    }
    assert all(row["Label code"] in KINDS for row in rows)
    params = coralnet.Settings(format="coralnet", path="upload.csv", prefix="noise/")
    source = AnnotationSource("upload.csv", (repo.path / "upload.csv").read_bytes(), [one])
    assert coralnet.read(source, params)[0].num_rows == len(rows)


@pytest.mark.slow
def test_boxes_of_their_own_sizes_are_trained_on_and_evaluated(repo):
    coco(repo)
    repo.set(chip__method="boxes", chip__size=None)
    said = counts(repo.said("dvc", "repro"))
    assert said["extract"][0] == 71
    assert json.loads((repo.path / "results/metrics.json").read_text())["accuracy"] > 0.8
    assert counts(repo.said("dvc", "repro")) == {"index": (0, 24)}
    (repo.path / "map.csv").write_text("from,to\nstripe,texture\nnoise,texture\n")
    repo.set(train__label_map="map.csv")
    done = repo.run("dvc", "repro", check=False)
    assert done.returncode
    assert (
        "no chip has the label 'stripe' (line 2; nearest: 'stripes')" in done.stdout + done.stderr
    )
    (repo.path / "map.csv").write_text("from,to\nstripes,texture\nnoise,texture\n")
    told = repo.said("dvc", "repro")
    assert "extract" not in counts(told)
    assert "the label map turns 3 labels into 2 classes and drops 0" in told
    with (repo.path / "results/tables/classes.csv").open() as stream:
        rows = {row["class"]: row["labels"] for row in csv.DictReader(stream)}
    assert rows == {"plain": "1", "texture": "2"}
